import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import Testing

@testable import LangevinServer

/// Jobs that wait and agree are drawn together.
struct BatchTests {
  private func job(_ prompt: String, _ change: (inout Order) -> Void = { _ in }) -> Job {
    var order = Order(model: "m", prompt: prompt)
    change(&order)
    return Job(order, origin: "v1")
  }

  private func running(_ jobs: [Job], batch: Int, _ engine: GatedEngine) async throws -> (
    JobQueue, Task<Void, Never>
  ) {
    let queue = JobQueue(limit: 16, batch: batch, metrics: Metrics())
    for job in jobs { try await queue.submit(job) }
    return (queue, Task { await Worker(engine: engine, queue: queue, metrics: Metrics()).run() })
  }

  @Test func `those that agree are drawn together, as many as the bound, and the others in their turn`()
    async throws
  {
    let engine = GatedEngine()
    engine.open()
    let jobs = [
      job("a"), job("b") { $0.seed = 7 }, job("other") { $0.steps = 9 }, job("c") { $0.count = 2 }, job("d"),
      job("e") { $0.steps = 9 },
    ]
    let (queue, worker) = try await running(jobs, batch: 4, engine)
    for job in jobs { #expect(await job.ended().state == .done) }
    #expect(engine.batches.withLock { $0 } == [["a", "b", "c"], ["other", "e"], ["d"]])
    #expect(jobs[1].status.pictures.map(\.seed) == [7])
    #expect(jobs[3].status.pictures.map(\.text) == ["c", "c"])
    await queue.drain()
    await worker.value
  }

  @Test func `with a bound of one every job is drawn alone`() async throws {
    let engine = GatedEngine()
    engine.open()
    let jobs = [job("a"), job("b"), job("c") { $0.count = 3 }]
    let (queue, worker) = try await running(jobs, batch: 1, engine)
    for job in jobs { #expect(await job.ended().state == .done) }
    #expect(engine.batches.withLock { $0 } == [["a"], ["b"], ["c"]])
    await queue.drain()
    await worker.value
  }

  @Test func `a job that is cancelled in a batch costs the others nothing, and the last one ends the batch`()
    async throws
  {
    for cancelled in [1, 2] {
      let engine = GatedEngine()
      let jobs = [job("a"), job("b")]
      let (queue, worker) = try await running(jobs, batch: 4, engine)
      while jobs[1].status.state != .running { try await Task.sleep(for: .milliseconds(2)) }
      for job in jobs.prefix(cancelled) { await queue.cancel(job) }
      #expect(jobs[0].status.state == .cancelled)
      if cancelled == 1 {
        engine.open()
        #expect(await jobs[1].ended().state == .done)
        #expect(jobs[0].status.pictures.isEmpty)
      }
      // The engine, which is not open where both are cancelled, has stopped.
      await queue.drain()
      await worker.value
      #expect(await queue.depth.running == 0)
    }
  }

  @Test func `a batch that fails is drawn job by job, so that it costs the one at fault alone`() async throws
  {
    let engine = GatedEngine()
    engine.open()
    let jobs = [job("a") { $0.count = 2 }, job("faulty"), job("b")]
    let (queue, worker) = try await running(jobs, batch: 8, engine)
    for job in jobs { _ = await job.ended() }
    #expect(jobs.map(\.status.state) == [.done, .failed, .done])
    #expect(jobs[1].status.error?.message == "it is faulty")
    #expect(jobs[0].status.pictures.count == 2, "those of the first try are not there twice")
    #expect(engine.batches.withLock { $0 } == [["a", "faulty", "b"], ["a"], ["faulty"], ["b"]])
    await queue.drain()
    await worker.value
  }

  @Test func `orders agree where only prompts, seeds and numbers differ`() {
    let order = Order(model: "m", prompt: "a")
    func with(_ change: (inout Order) -> Void) -> Order {
      var other = order
      change(&other)
      return other
    }
    for same in [
      with { $0.prompt = "b" }, with { $0.seed = 9 }, with { $0.count = 3 },
      with { ($0.count, $0.batch) = (2, 2) },
    ] { #expect(same.shared == order.shared) }
    #expect(order.shared != nil)
    for other in [
      with { $0.model = "n" }, with { $0.steps = 3 }, with { $0.sampler = "euler" }, with { $0.guidance = 1 },
      with { $0.width = 64 }, with { $0.negativePrompt = "x" }, with { $0.rng = .torch },
      with { $0.prompt = "a <lora:x:0.5>" }, with { $0.prompt = "" }, with { $0.eta = 1 },
      with { $0.previewEvery = 2 }, with { $0.spacing = "karras" },
    ] { #expect(other.shared != nil && other.shared != order.shared, "\(other)") }
    for alone in [
      with { $0.promptSyntax = .a1111 }, with { $0.image = Data([1]) },
      with { ($0.count, $0.batch) = (4, 2) },
    ] { #expect(alone.shared == nil, "\(alone)") }
  }

  @Test func `pictures of a batch are what they are alone`() throws {
    let served = ServedModels(models: [try DefaultModel.url.path])
    let studio = Studio(Catalog(served), on: Device(CPUBackend()), version: "test")
    let model = try #require(studio.catalog.models.first?.name)
    let orders = [("red apple", 7, 1), ("a blue heart on a long, long way", 1 << 40, 2), ("dog", 0, 1)].map {
      prompt, seed, count in
      var order = Order(model: model, prompt: prompt)
      (order.seed, order.count, order.steps, order.sampler) = (UInt64(seed), count, 3, "euler-a")
      return order
    }
    func draw(_ orders: [Order]) throws -> [[DrawnPicture]] {
      var pictures = orders.map { _ in [DrawnPicture]() }
      try studio.draw(orders) { event, number in
        guard case .picture(let picture, let image) = event else { return }
        #expect(image == pictures[number].count)
        pictures[number].append(picture)
      }
      return pictures
    }
    let together = try draw(orders)
    for (order, pictures) in zip(orders, together) {
      let alone = try draw([order])[0]
      #expect(pictures.map(\.text) == alone.map(\.text))
      for (one, other) in zip(pictures, alone) {
        let pixels = try [one, other].map {
          try Picture.read($0.png, path: "a", limits: ImageLimits()).picture.pixels
        }
        let most = zip(pixels[0], pixels[1]).map { abs(Int($0) - Int($1)) }.max()
        // What rounds the other way.
        #expect(try #require(most) <= 1)
      }
    }
  }

  @Test func `latents with seeds of their own are what they are alone to 1e-5`() throws {
    let pipeline = try Pipelines.open(Checkpoint.open(DefaultModel.url), on: Device(CPUBackend()))
    var request = GenerationRequest(prompts: ["red apple", "dog"])
    (request.steps, request.seeds, request.batch) = (3, [9, 2], 2)
    let together = try pipeline.generate(request)
    #expect(together.seeds == [9, 2])
    let size = together.latents.values.count / 2
    for (place, seed) in [9, 2].enumerated() {
      var single = GenerationRequest(prompt: request.prompts[place])
      (single.steps, single.seed) = (3, UInt64(seed))
      let alone = try pipeline.generate(single).latents.values
      let scale = alone.map(abs).max() ?? 1
      let part = together.latents.values[place * size..<(place + 1) * size]
      #expect(zip(part, alone).allSatisfy { abs($0 - $1) <= 1e-5 * scale })
    }
    request.seeds = [9]
    #expect(throws: GenerationError.self) { try pipeline.generate(request) }
  }
}
