import Foundation
import LangevinJSON
import Synchronization

/// How far a job is.
struct JobStatus: Sendable {
  enum State: String, Sendable { case queued, running, done, failed, cancelled }

  var state = State.queued
  /// In the queue, from 1; 0 once it is drawn.
  var place = 0
  /// Of the batch in progress.
  var step = 0
  var steps = 0
  /// The first image of that batch.
  var image = 0
  var loading: String?
  var warnings: [String] = []
  var pictures: [DrawnPicture] = []
  /// PNG.
  var preview: Data?
  var error: APIError?
  let created = Date()
  var started, ended: Date?

  var isEnded: Bool { ![.queued, .running].contains(state) }
}

/// What watchers of a job are told.
enum JobEvent: Sendable {
  case queued(place: Int)
  case started
  case loading(String)
  case warning(String)
  case progress
  case preview(Data, image: Int)
  case picture(index: Int)
  /// The last one.
  case ended
}

/// An order on its way to pictures. Watchers may come and go.
final class Job: Sendable {
  let id: String
  let order: Order
  /// What jobs have in common that are drawn as one batch; nil for one that is drawn alone.
  let shared: Order?
  /// Who asked: `v1`, `openai`, `sdapi`.
  let origin: String

  private struct Watched {
    var status = JobStatus()
    var watchers: [Int: AsyncStream<JobEvent>.Continuation] = [:]
    var nextWatcher = 0
    var stopped: (@Sendable () -> Void)?
  }
  private let watched = Mutex(Watched())

  init(_ order: Order, origin: String, warnings: [String] = []) {
    id = UUID().uuidString.lowercased()
    (self.order, shared, self.origin) = (order, order.shared, origin)
    watched.withLock { $0.status.warnings = warnings }
  }

  var status: JobStatus { watched.withLock { $0.status } }

  /// How much of it is done, 0...1.
  var fraction: Double {
    let status = status
    if status.state == .done { return 1 }
    guard status.steps > 0 else { return 0 }
    let batch = max(1, min(order.batch ?? order.count, order.count))
    let inBatch = Double(min(batch, order.count - status.image)) * Double(status.step) / Double(status.steps)
    return min(1, (Double(status.image) + inBatch) / Double(order.count))
  }

  // MARK: Watching

  /// What happens from now on, at first how far it is; ends with the job.
  func events() -> AsyncStream<JobEvent> {
    let (stream, continuation) = AsyncStream.makeStream(
      of: JobEvent.self, bufferingPolicy: .bufferingNewest(2048))
    watched.withLock { watched in
      let status = watched.status
      switch status.state {
      case .queued: continuation.yield(.queued(place: status.place))
      case .running: continuation.yield(.started)
      case .done, .failed, .cancelled: break
      }
      for line in status.warnings { continuation.yield(.warning(line)) }
      for index in status.pictures.indices { continuation.yield(.picture(index: index)) }
      if status.isEnded {
        continuation.yield(.ended)
        continuation.finish()
        return
      }
      if status.step > 0 { continuation.yield(.progress) }
      let number = watched.nextWatcher
      watched.nextWatcher += 1
      watched.watchers[number] = continuation
      continuation.onTermination = { [weak self] _ in
        self?.watched.withLock { _ = $0.watchers.removeValue(forKey: number) }
      }
    }
    return stream
  }

  /// Waits for its end.
  func ended() async -> JobStatus {
    for await _ in events() {}
    return status
  }

  /// Changes the status of a job that has not ended, and tells watchers. They are told outside of the lock: a watcher
  /// that goes away takes it.
  @discardableResult
  private func update(_ change: (inout JobStatus) -> JobEvent?) -> Bool {
    let (told, event, isLast) = watched.withLock {
      watched -> ([AsyncStream<JobEvent>.Continuation], JobEvent?, Bool) in
      guard !watched.status.isEnded else { return ([], nil, false) }
      let event = change(&watched.status)
      let told = Array(watched.watchers.values)
      let isLast = watched.status.isEnded
      if isLast { watched.watchers = [:] }
      return (told, event, isLast)
    }
    guard let event else { return false }
    for watcher in told {
      watcher.yield(event)
      if isLast { watcher.finish() }
    }
    return true
  }

  // MARK: Working

  func move(to place: Int) {
    update { status in
      guard status.state == .queued, status.place != place else { return nil }
      status.place = place
      return .queued(place: place)
    }
  }

  /// Returns whether it is to be drawn: it had not ended.
  func begin() -> Bool {
    update { status in
      (status.state, status.place, status.started) = (.running, 0, Date())
      return .started
    }
  }

  /// Has `body` called once the job is cancelled or failed while it is drawn, at once where that has happened.
  func whenStopped(_ body: (@Sendable () -> Void)?) {
    let isEnded = watched.withLock { watched in
      watched.stopped = body
      return watched.status.isEnded
    }
    if isEnded { body?() }
  }

  func receive(_ event: DrawingEvent) {
    update { status in
      switch event {
      case .warning(let line):
        guard !status.warnings.contains(line) else { return nil }
        status.warnings.append(line)
        return .warning(line)
      case .loading(let name):
        status.loading = name
        return .loading(name)
      case .step(let step, let total, let image):
        (status.step, status.steps, status.image, status.loading) = (step, total, image, nil)
        return .progress
      case .preview(let png, let image):
        status.preview = png
        return .preview(png, image: image)
      case .picture(let picture, let image):
        // One that is drawn again has some already.
        guard image == status.pictures.count else { return nil }
        status.pictures.append(picture)
        return .picture(index: status.pictures.count - 1)
      }
    }
  }

  /// All of it is drawn.
  func finish() { end(.done) }

  @discardableResult
  private func end(_ state: JobStatus.State, _ error: APIError? = nil) -> Bool {
    update { status in
      (status.state, status.error, status.ended) = (state, error, Date())
      (status.preview, status.loading, status.place) = (nil, nil, 0)
      return .ended
    }
  }

  /// Ends it at once; the engine stops after the step in progress. Returns whether it had not ended before.
  @discardableResult
  func cancel() -> Bool { stop(.cancelled, nil) }

  /// The same for a reason that is not the client's.
  @discardableResult
  func fail(_ error: APIError) -> Bool { stop(.failed, error) }

  private func stop(_ state: JobStatus.State, _ error: APIError?) -> Bool {
    let isFirst = end(state, error)
    watched.withLock { $0.stopped }?()
    return isFirst
  }

  /// Bytes of its pictures.
  var size: Int {
    watched.withLock { $0.status.pictures.reduce(order.image?.count ?? 0) { $0 + $1.png.count } }
  }
}
