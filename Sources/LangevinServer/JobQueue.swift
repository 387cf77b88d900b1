import Foundation
import LangevinTensor

/// The jobs that wait, those that are drawn, and some that have ended.
actor JobQueue {
  /// How many may wait.
  let limit: Int
  /// How many pictures of jobs that agree are drawn together.
  private let batch: Int
  /// Ended jobs stay until they are more, or their pictures are larger.
  private let (endedLimit, endedBytes): (Int, Int)
  private var waiting: [Job] = []
  private var running: [String: Job] = [:]
  private var ended: [Job] = []
  private var idle: [(number: Int, continuation: CheckedContinuation<[Job]?, Never>)] = []
  private var nextIdle = 0
  /// Why no job is taken any more.
  private var refusal: APIError?
  private let metrics: Metrics

  init(limit: Int, batch: Int = 1, metrics: Metrics, endedLimit: Int = 200, endedBytes: Int = 256 << 20) {
    (self.limit, self.batch, self.metrics) = (limit, batch, metrics)
    (self.endedLimit, self.endedBytes) = (endedLimit, endedBytes)
  }

  struct Depth: Sendable {
    let waiting, running: Int
    let isDraining: Bool
  }

  var depth: Depth { Depth(waiting: waiting.count, running: running.count, isDraining: refusal != nil) }

  /// Workers that wait for a job.
  var idleCount: Int { idle.count }

  /// Newest first.
  var all: [Job] { ended.reversed() + running.values + waiting }

  var active: [Job] { Array(running.values) + waiting }

  func job(_ id: String) throws -> Job {
    if let job = running[id] ?? waiting.first(where: { $0.id == id }) ?? ended.first(where: { $0.id == id }) {
      return job
    }
    throw APIError.notFound("there is no job '\(id.shortened(to: 60))'; ended ones are forgotten in time")
  }

  /// Throws `APIError`: 429 where too many wait, 503 where the server is stopping.
  func submit(_ job: Job) throws {
    if let refusal { throw refusal }
    if let free = idle.first {
      idle.removeFirst()
      running[job.id] = job
      return free.continuation.resume(returning: [job])
    }
    guard waiting.count < limit else {
      let seconds = metrics.secondsUntilFree
      throw APIError(
        .tooManyRequests,
        "\(waiting.count) jobs are waiting, and no more may; try again in \(seconds) seconds",
        headers: [.retryAfter: "\(seconds)"])
    }
    waiting.append(job)
    job.move(to: waiting.count)
  }

  /// The next job for a worker, which waits for it, and with it those that wait and can be drawn in the same batch; nil
  /// where there will be none.
  func next() async -> [Job]? {
    if !waiting.isEmpty {
      let jobs = takeBatch()
      renumber()
      for job in jobs { running[job.id] = job }
      return jobs
    }
    if refusal != nil || Task.isCancelled { return nil }
    let number = nextIdle
    nextIdle += 1
    return await withTaskCancellationHandler {
      await withCheckedContinuation { idle.append((number, $0)) }
    } onCancel: {
      Task { await self.wake(number) }
    }
  }

  private func takeBatch() -> [Job] {
    var jobs = [waiting.removeFirst()]
    guard let shared = jobs[0].shared else { return jobs }
    var room = batch - jobs[0].order.count
    waiting.removeAll { job in
      guard job.order.count <= room, job.shared == shared else { return false }
      room -= job.order.count
      jobs.append(job)
      return true
    }
    return jobs
  }

  private func wake(_ number: Int) {
    guard let index = idle.firstIndex(where: { $0.number == number }) else { return }
    idle.remove(at: index).continuation.resume(returning: nil)
  }

  /// A worker is done with a job.
  func finish(_ job: Job) {
    guard running.removeValue(forKey: job.id) != nil else { return }
    keep(job)
  }

  /// Throws `APIError` where it has ended already.
  func cancel(_ id: String) throws {
    let job = try job(id)
    guard cancel(job) else {
      let status = job.status
      throw APIError(
        .conflict, "the job '\(id)' \(status.state == .cancelled ? "is cancelled" : "has ended") already")
    }
  }

  /// Returns whether it had not ended.
  @discardableResult
  func cancel(_ job: Job) -> Bool {
    let isFirst = job.cancel()
    if let index = waiting.firstIndex(where: { $0 === job }) {
      waiting.remove(at: index)
      renumber()
      keep(job)
    }
    return isFirst
  }

  /// Cancels what is drawn now for clients of one API, also where its worker has not begun.
  func interrupt(origin: String) {
    for job in running.values where job.origin == origin { cancel(job) }
  }

  private func renumber() {
    for (index, job) in waiting.enumerated() { job.move(to: index + 1) }
  }

  private func keep(_ job: Job) {
    metrics.count(job)
    ended.append(job)
    var bytes = ended.reduce(0) { $0 + $1.size }
    while let first = ended.first, ended.count > endedLimit || bytes > endedBytes {
      bytes -= first.size
      ended.removeFirst()
    }
  }

  /// No new jobs; those that are there go on.
  func drain() {
    refusal = APIError(
      .serviceUnavailable, "the server is stopping and takes no more jobs", headers: [.retryAfter: "5"])
    for worker in idle { worker.continuation.resume(returning: nil) }
    idle = []
  }

  /// Ends what waits, and what runs where `all` says so.
  func abort(all: Bool) {
    let stopping = APIError(.serviceUnavailable, "the server is stopping; this job was not drawn")
    for job in waiting {
      job.fail(stopping)
      keep(job)
    }
    waiting = []
    if all { for job in running.values { job.fail(stopping) } }
  }
}
