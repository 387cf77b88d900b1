import Foundation
import LangevinTestSupport
import Synchronization
import Testing

@testable import LangevinServer

/// Cancellations, ends and starts of processes that meet: each order of events, with a process that does as it is told.
@Suite(.serialized) struct RaceTests {
  private func order(_ prompt: String) -> Order { Order(model: "m", prompt: prompt) }

  /// Runs an order, and says once its first step is done.
  private func draw(_ prompt: String, on engine: ChildEngine) async -> Task<Void, any Error> {
    let begun = AsyncStream.makeStream(of: Void.self)
    let order = order(prompt)
    let task = Task { try await engine.draw(order) { _ in begun.continuation.yield() } }
    for await _ in begun.stream { break }
    return task
  }

  /// The next order starts another process, which is `slow` or `deaf`.
  private func endProcess(of engine: ChildEngine, _ fake: FakeProcess, next kind: String) async throws {
    let process = try #require(await engine.processID)
    try fake.touch(kind)
    kill(process, SIGKILL)
    try await until { kill(process, 0) != 0 }
  }

  private func withEngine(
    patience: Double = 900,
    _ body: @escaping @Sendable (ChildEngine, FakeProcess, Metrics) async throws -> Void
  ) async throws {
    let (fake, metrics) = (try FakeProcess(), Metrics())
    defer { fake.remove() }
    let engine = try await fake.engine(patience: patience, metrics: metrics)
    // What waits for ever ends: beside a thousand other tests a step of this one may take seconds.
    do { try await within(900) { try await body(engine, fake, metrics) } } catch {
      await engine.stop()
      throw error
    }
    await engine.stop()
  }

  @Test func `a cancelled order answers, and the next one is drawn by the same process`() async throws {
    try await withEngine { engine, fake, _ in
      for _ in 0..<8 {
        let held = await draw("held", on: engine)
        held.cancel()
        await #expect(throws: CancellationError.self) { try await held.value }
        try await engine.draw(order("quick")) { _ in }
      }
      #expect(fake.log.count { $0 == "start" } == 1)
      #expect(fake.log.count { $0 == "draw quick" } == 8)
    }
  }

  @Test func `an order that is done while it is cancelled is done, and the next one is not cancelled`()
    async throws
  {
    try await withEngine { engine, fake, _ in
      for _ in 0..<8 {
        let late = await draw("late", on: engine)
        late.cancel()
        try await late.value
        let held = await draw("held", on: engine)
        #expect(fake.log.last == "draw held")
        held.cancel()
        await #expect(throws: CancellationError.self) { try await held.value }
      }
    }
  }

  @Test func `a cancellation is for its own order, however late it comes`() {
    let mailbox = Mailbox()
    mailbox.put([order("a")], 1)
    #expect(mailbox.take().1 == 1)
    mailbox.put([order("b")], 2)
    mailbox.cancel(1)
    #expect(mailbox.isCancelled(1))
    #expect(!mailbox.isCancelled(2))
    // Or before it is begun.
    mailbox.cancel(2)
    #expect(mailbox.isCancelled(mailbox.take().1))
  }

  @Test func `an order that is cancelled while a process starts is not drawn, and the process is kept`()
    async throws
  {
    try await withEngine { engine, fake, _ in
      try await endProcess(of: engine, fake, next: "slow")
      let held = Task { try await engine.draw(order("held")) { _ in } }
      try await until { fake.log == ["start", "start"] }
      held.cancel()
      try fake.touch("go")
      await #expect(throws: CancellationError.self) { try await held.value }
      try await engine.draw(order("quick")) { _ in }
      #expect(fake.log == ["start", "start", "draw quick"])
    }
  }

  @Test func `a process that ends with nothing to do costs no order, however soon the next one comes`()
    async throws
  {
    try await withEngine { engine, fake, metrics in
      for _ in 0..<8 {
        kill(try #require(await engine.processID), SIGKILL)
        try await engine.draw(order("quick")) { _ in }
      }
      #expect(fake.log.count { $0 == "draw quick" } == 8)
      #expect(metrics.text(.init(waiting: 0, running: 0, isDraining: false)).contains("crashes_total 8\n"))
    }
  }

  @Test func `an order that ends its process is tried with a fresh one, once and only before it has begun`()
    async throws
  {
    try await withEngine { engine, fake, _ in
      await #expect(throws: Failure.self) { try await engine.draw(order("crash")) { _ in } }
      #expect(fake.log == ["start", "draw crash", "start", "draw crash"])
      await #expect(throws: Failure.self) { try await engine.draw(order("break")) { _ in } }
      #expect(fake.log.dropFirst(4) == ["start", "draw break"])
      try await engine.draw(order("quick")) { _ in }
    }
  }

  @Test func `a process that reads nothing keeps nobody waiting but its own order`() async throws {
    try await withEngine(patience: 0.3) { engine, fake, _ in
      try await endProcess(of: engine, fake, next: "deaf")
      // More than a pipe holds.
      var large = order("held")
      large.image = Data(repeating: 1, count: 1 << 20)
      let task = Task { [large] in try await engine.draw(large) { _ in } }
      try await until { fake.log == ["start", "start", "deaf"] }
      try await Task.sleep(for: .milliseconds(300))
      fake.remove("deaf")
      task.cancel()
      await #expect(throws: Failure.self) { try await task.value }
      try await engine.draw(order("quick")) { _ in }
    }
  }

  @Test func `an engine that is stopped while its process starts ends at once`() async throws {
    try await withEngine { engine, fake, _ in
      try await endProcess(of: engine, fake, next: "slow")
      let held = Task { try await engine.draw(order("held")) { _ in } }
      try await until { fake.log == ["start", "start"] }
      let second = try #require(await engine.processID)
      await engine.stop()
      let failure = await #expect(throws: Failure.self) { try await held.value }
      #expect(failure?.message.contains("the server is stopping") == true)
      try await until { kill(second, 0) != 0 }
    }
  }

  @Test func `an interrupt meets a job that its worker has been given and not begun`() async throws {
    let queue = JobQueue(limit: 8, metrics: Metrics())
    let worker = Task { await queue.next() }
    // The worker waits; what is submitted now is handed over at once.
    while await queue.idleCount == 0 { await Task.yield() }
    let (given, waiting) = (Job(order("a"), origin: "sdapi"), Job(order("b"), origin: "sdapi"))
    try await queue.submit(given)
    try await queue.submit(waiting)
    #expect(given.status.state == .queued)
    await queue.interrupt(origin: "v1")
    #expect(given.status.state == .queued)
    await queue.interrupt(origin: "sdapi")
    #expect(given.status.state == .cancelled)
    #expect(waiting.status.state == .queued)
    #expect(await worker.value?.map(\.id) == [given.id])
  }

  @Test(arguments: 0..<8)
  func `jobs that are cancelled at any time all end, and none keeps the next one waiting`(_ seed: Int)
    async throws
  {
    var random = SeededGenerator(state: UInt64(seed))
    // Nanoseconds from the submission to the cancellation; most are cancelled.
    let plan = (0..<40).map { _ in
      (
        prompt: ["quick", "held", "late", "break"].randomElement(using: &random)!,
        cancelled: UInt64.random(in: 0..<5_000_000, using: &random)
      )
    }
    try await withEngine { engine, _, metrics in
      let queue = JobQueue(limit: 64, metrics: metrics)
      let worker = Task { await Worker(engine: engine, queue: queue, metrics: Metrics()).run() }
      for (prompt, cancelled) in plan {
        let job = Job(order(prompt), origin: "v1")
        try await queue.submit(job)
        try await Task.sleep(nanoseconds: cancelled)
        if prompt != "quick" { await queue.cancel(job) }
        if cancelled % 2 == 0 { _ = await job.ended() }
      }
      let last = Job(order("quick"), origin: "v1")
      try await queue.submit(last)
      #expect(await last.ended().state == .done)
      for job in await queue.all where job.order.prompt == "quick" {
        #expect(job.status.state == .done, "\(job.status.error?.message ?? "")")
      }
      await queue.drain()
      await worker.value
      #expect(await queue.depth.running == 0)
    }
  }
}
