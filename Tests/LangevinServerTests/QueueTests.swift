import Foundation
import Langevin
import Testing

@testable import LangevinServer

/// The queue between clients and workers, without HTTP.
struct QueueTests {
  private func job(_ prompt: String = "a") -> Job { Job(Order(model: "m", prompt: prompt), origin: "v1") }

  @Test func `jobs are drawn in their order and know their place`() async throws {
    let queue = JobQueue(limit: 8, metrics: Metrics())
    let engine = GatedEngine()
    let jobs = ["a", "b", "c"].map { job($0) }
    for job in jobs { try await queue.submit(job) }
    #expect(jobs.map(\.status.place) == [1, 2, 3])
    let worker = Task { await Worker(engine: engine, queue: queue, metrics: Metrics()).run() }
    engine.open()
    for job in jobs { #expect(await job.ended().state == .done) }
    #expect(engine.drawn.withLock { $0 } == ["a", "b", "c"])
    await queue.drain()
    await worker.value
    #expect(engine.isStopped.isSet)
  }

  @Test func `more than the bound is refused with the time to come back`() async throws {
    let queue = JobQueue(limit: 2, metrics: Metrics())
    for _ in 0..<2 { try await queue.submit(job()) }
    let error = await #expect(throws: APIError.self) { try await queue.submit(job()) }
    #expect(error?.status == .tooManyRequests)
    #expect(error.flatMap { Int($0.headers[.retryAfter] ?? "") } ?? 0 >= 1)
    #expect(await queue.depth.waiting == 2)
  }

  @Test func `a waiting job that is cancelled makes room and moves the others up`() async throws {
    let queue = JobQueue(limit: 2, metrics: Metrics())
    let (first, second) = (job("a"), job("b"))
    try await queue.submit(first)
    try await queue.submit(second)
    try await queue.cancel(first.id)
    #expect(first.status.state == .cancelled)
    #expect(second.status.place == 1)
    try await queue.submit(job("c"))
    await #expect(throws: APIError.self) { try await queue.cancel(first.id) }
  }

  @Test func `a running job that is cancelled ends at once, and the worker takes the next`() async throws {
    let queue = JobQueue(limit: 2, metrics: Metrics())
    let engine = GatedEngine()
    let worker = Task { await Worker(engine: engine, queue: queue, metrics: Metrics()).run() }
    let (first, second) = (job("a"), job("b"))
    try await queue.submit(first)
    while first.status.state != .running { try await Task.sleep(for: .milliseconds(2)) }
    try await queue.cancel(first.id)
    #expect(first.status.state == .cancelled)
    engine.open()
    try await queue.submit(second)
    #expect(await second.ended().state == .done)
    #expect(engine.drawn.withLock { $0 } == ["b"])
    await queue.drain()
    await worker.value
  }

  @Test func `ended jobs are forgotten, the oldest first`() async throws {
    let queue = JobQueue(limit: 8, metrics: Metrics(), endedLimit: 2)
    let jobs = (0..<3).map { _ in job() }
    for job in jobs {
      try await queue.submit(job)
      try await queue.cancel(job.id)
    }
    await #expect(throws: APIError.self) { try await queue.job(jobs[0].id) }
    #expect(try await queue.job(jobs[1].id) === jobs[1])
  }

  @Test func `a stopping server hands back what waits and takes no more`() async throws {
    let queue = JobQueue(limit: 8, metrics: Metrics())
    let waiting = job()
    try await queue.submit(waiting)
    await queue.drain()
    await queue.abort(all: false)
    #expect(waiting.status.error?.status == .serviceUnavailable)
    let error = await #expect(throws: APIError.self) { try await queue.submit(job()) }
    #expect(error?.status == .serviceUnavailable)
  }

  @Test func `watchers that come late hear of everything that counts`() async throws {
    let queue = JobQueue(limit: 8, metrics: Metrics())
    let engine = GatedEngine()
    engine.open()
    let worker = Task { await Worker(engine: engine, queue: queue, metrics: Metrics()).run() }
    let job = job()
    try await queue.submit(job)
    _ = await job.ended()
    var names: [String] = []
    for await event in job.events() {
      switch event {
      case .picture(let index): names.append("picture \(index)")
      case .ended: names.append("ended")
      default: names.append("other")
      }
    }
    #expect(names == ["picture 0", "ended"])
    await queue.drain()
    await worker.value
  }
}
