import Foundation
import Synchronization

/// What the server counts, for Prometheus and for estimates.
final class Metrics: Sendable {
  private struct Counts {
    var requests: [String: Int] = [:]
    var jobs: [String: Int] = [:]
    var pictures = 0
    var steps = 0
    var drawingSeconds = 0.0
    var waitingSeconds = 0.0
    var drawn = 0
    var crashes = 0
    var workers = 1
  }
  private let counts = Mutex(Counts())
  private let start = Date()

  func set(workers: Int) { counts.withLock { $0.workers = max(workers, 1) } }

  /// `route` is the pattern, which a client cannot make up.
  func countRequest(_ method: String, _ route: String, status: Int) {
    counts.withLock {
      $0.requests["method=\"\(method)\",route=\"\(route)\",status=\"\(status)\"", default: 0] += 1
    }
  }

  func countCrash() { counts.withLock { $0.crashes += 1 } }

  /// Of one job, or of several that were drawn together.
  func countDrawing(seconds: Double) { counts.withLock { $0.drawingSeconds += seconds } }

  /// Of a job that has ended.
  func count(_ job: Job) {
    let status = job.status
    counts.withLock { counts in
      counts.jobs[status.state.rawValue, default: 0] += 1
      counts.pictures += status.pictures.count
      counts.steps += status.pictures.count * status.steps
      guard let started = status.started else { return }
      counts.drawn += 1
      counts.waitingSeconds += started.timeIntervalSince(status.created)
    }
  }

  /// How long until another waiting job is taken, by the mean of those that were drawn: 1...3600.
  var secondsUntilFree: Int {
    counts.withLock { counts in
      let mean = counts.drawn == 0 ? 5 : counts.drawingSeconds / Double(counts.drawn)
      return Int(min(max((mean / Double(counts.workers)).rounded(.up), 1), 3600))
    }
  }

  /// Prometheus' text format, version 0.0.4.
  func text(_ depth: JobQueue.Depth) -> String {
    let counts = counts.withLock { $0 }
    var lines: [String] = []
    func add(_ name: String, _ type: String, _ help: String, _ samples: [(labels: String, value: String)]) {
      lines += ["# HELP langevin_\(name) \(help)", "# TYPE langevin_\(name) \(type)"]
      lines += samples.map { "langevin_\(name)\($0.labels.isEmpty ? "" : "{\($0.labels)}") \($0.value)" }
    }
    func one(_ value: some CustomStringConvertible) -> [(labels: String, value: String)] {
      [("", "\(value)")]
    }
    func sorted(_ values: [String: Int]) -> [(labels: String, value: String)] {
      values.sorted { $0.key < $1.key }.map { ($0.key, "\($0.value)") }
    }
    add("queue_depth", "gauge", "Jobs that wait.", one(depth.waiting))
    add("jobs_running", "gauge", "Jobs that are drawn now.", one(depth.running))
    add(
      "jobs_total", "counter", "Jobs that ended, by how.",
      ["done", "failed", "cancelled"].map { ("state=\"\($0)\"", "\(counts.jobs[$0] ?? 0)") })
    add("pictures_total", "counter", "Pictures drawn.", one(counts.pictures))
    add("steps_total", "counter", "Sampling steps of pictures drawn.", one(counts.steps))
    add("drawing_seconds_total", "counter", "Seconds that devices drew.", one(counts.drawingSeconds))
    add("waiting_seconds_total", "counter", "Seconds that jobs waited.", one(counts.waitingSeconds))
    add("engine_crashes_total", "counter", "Drawing processes that ended by themselves.", one(counts.crashes))
    add("requests_total", "counter", "HTTP requests answered.", sorted(counts.requests))
    add("uptime_seconds", "gauge", "Since the start.", one(Date().timeIntervalSince(start)))
    return lines.joined(separator: "\n") + "\n"
  }
}
