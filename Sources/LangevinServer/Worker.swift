import Foundation
import Langevin

/// Draws what is queued with one engine, until there will be nothing more.
struct Worker: Sendable {
  let engine: any Engine
  let queue: JobQueue
  let metrics: Metrics

  func run() async {
    while let jobs = await queue.next() {
      let start = ContinuousClock.now
      await draw(jobs)
      metrics.countDrawing(seconds: (ContinuousClock.now - start) / .seconds(1))
      for job in jobs { await queue.finish(job) }
    }
    await engine.stop()
  }

  /// Returns when the engine is free again, which may be after the jobs were cancelled.
  private func draw(_ jobs: [Job]) async {
    let jobs = jobs.filter { $0.begin() }
    guard !jobs.isEmpty, let error = await attempt(jobs) else { return }
    if jobs.count == 1 {
      jobs[0].fail(error)
      return
    }
    // One of them may be to blame, or all of them are too many for the device: that costs no other job.
    for job in jobs where !job.status.isEnded {
      if let error = await attempt([job]) { job.fail(error) }
    }
  }

  /// Draws jobs as one batch; they end with it, or when they are cancelled. Returns why it could not be drawn.
  private func attempt(_ jobs: [Job]) async -> APIError? {
    let task = Task { () -> APIError? in
      do {
        try await engine.draw(jobs.map(\.order)) { event, number in jobs[number].receive(event) }
        for job in jobs { job.finish() }
      } catch is CancellationError {
        for job in jobs { job.cancel() }
      } catch let failure as Failure {
        return APIError(failure.isRequestsFault ? .badRequest : .internalServerError, failure.message)
      } catch {
        return APIError(.internalServerError, "\(error)")
      }
      return nil
    }
    for job in jobs {
      job.whenStopped {
        // The others are drawn to their end.
        if jobs.allSatisfy(\.status.isEnded) { task.cancel() }
      }
    }
    defer { for job in jobs { job.whenStopped(nil) } }
    return await task.value
  }
}
