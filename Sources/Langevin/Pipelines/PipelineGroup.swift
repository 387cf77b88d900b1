import Foundation
import LangevinTensor
import Synchronization

/// The same model on several devices, which share the images of a request: image k has the seed that it has on one device
/// alone, and is what the device that draws it would draw alone.
public struct PipelineGroup: Sendable {
  /// The model on one device.
  public struct Member: Sendable {
    /// Draws on the device.
    public var pipeline: any Pipeline
    /// How long the same work takes on each device, in any unit. The shares are by it.
    public var seconds: Double

    /// A model on a device.
    public init(_ pipeline: any Pipeline, seconds: Double) {
      (self.pipeline, self.seconds) = (pipeline, seconds)
    }
  }

  /// At least one.
  public let members: [Member]

  /// Every member runs the same checkpoint.
  public init(_ members: [Member]) {
    precondition(!members.isEmpty)
    self.members = members
  }

  /// Shares batches out so that all are done early: each in turn goes where it is done first. One share for each device,
  /// some of them empty where there are few batches.
  public static func shares(of batches: [Range<Int>], seconds: [Double]) -> [[Range<Int>]] {
    var shares = [[Range<Int>]](repeating: [], count: seconds.count)
    var ends = [Double](repeating: 0, count: seconds.count)
    for batch in batches {
      let after = zip(ends, seconds).map { $0 + $1 * Double(batch.count) }
      guard let first = after.indices.min(by: { after[$0] < after[$1] }) else { break }
      shares[first].append(batch)
      ends[first] = after[first]
    }
    return shares
  }

  /// Runs a request, as `Pipeline.stream` does. `progress` is called on the caller's thread, with the number of the member
  /// that draws; images come in any order.
  ///
  /// `kept` is of one device alone; of several each loads its networks anew.
  /// What a device fails to draw is drawn by the others; `failed` is told why. Throws what the last device threw, and what
  /// `progress` throws, which stops all of them.
  public func stream(
    _ request: GenerationRequest, keeping kept: KeptNetworks? = nil,
    failed: (_ member: Int, _ reason: any Error) -> Void,
    progress: (_ event: GenerationProgress, _ member: Int) throws -> Void
  ) throws {
    if members.count == 1 {
      return try members[0].pipeline.stream(request, keeping: kept) { try progress($0, 0) }
    }
    var healthy = Array(members.indices)
    var left = request.batches
    var told: Set<String> = []
    while !left.isEmpty {
      let shares = Self.shares(of: left, seconds: healthy.map { members[$0].seconds })
      let work = zip(healthy, shares).filter { !$1.isEmpty }
      var finished: Set<Int> = []
      let failures = try run(request, work) { event, member in
        // Each device says it.
        if let text = event.textForAll, !told.insert(text).inserted { return }
        if case .finished(_, let image, _) = event { finished.insert(image) }
        try progress(event, member)
      }
      guard !failures.isEmpty else { return }
      for (member, error) in failures {
        healthy.removeAll { $0 == member }
        guard !healthy.isEmpty else { throw error }
        failed(member, error)
      }
      left = left.flatMap { batch in
        RangeSet(batch.filter { !finished.contains($0) }.map { $0..<$0 + 1 }).ranges
      }
    }
  }

  /// Runs each member's share on a thread of its own, and returns those that failed. Throws what `progress` throws.
  private func run(
    _ request: GenerationRequest, _ work: [(member: Int, share: [Range<Int>])],
    _ progress: (GenerationProgress, Int) throws -> Void
  ) throws -> [(member: Int, error: any Error)] {
    let desk = Desk(members: members.count)
    for (member, share) in work {
      var own = request
      own.share = share
      let thread = Thread { [own, pipeline = members[member].pipeline] in
        let result = Result { try pipeline.stream(own) { try desk.report($0, from: member) } }
        desk.end(member, result)
      }
      thread.name = "device \(member)"
      // As much as the main thread has on most systems; others get a fraction of it.
      thread.stackSize = 8 << 20
      thread.start()
    }
    var failures: [(member: Int, error: any Error)] = []
    var stop: (any Error)?
    var running = work.count
    while running > 0 {
      switch desk.next() {
      case .event(let event, let member):
        if stop == nil {
          do { try progress(event, member) } catch { stop = error }
        }
        desk.answer(member, goesOn: stop == nil)
      case .end(let member, let error):
        running -= 1
        if let error, stop == nil { failures.append((member, error)) }
      }
    }
    if let stop { throw stop }
    return failures
  }
}

extension GenerationProgress {
  /// Of what is true of the request on any device; nil for what happens to an image.
  fileprivate var textForAll: String? {
    switch self {
    case .warning(let line): line
    case .loading(let name): name
    case .truncated(let prompt, let rest): "\(prompt)\n\(rest)"
    case .sampling, .step, .preview, .sampled, .decoding, .finished: nil
    }
  }
}

/// Where the drawing threads report, each waiting for its answer.
private final class Desk: Sendable {
  enum Message: Sendable {
    case event(GenerationProgress, Int)
    case end(Int, (any Error)?)
  }

  private struct Stopped: Error {}

  private let messages = Mutex<[Message]>([])
  private let filled = DispatchSemaphore(value: 0)
  private let answers: [DispatchSemaphore]
  private let isStopped = Atomic(false)

  init(members: Int) { answers = (0..<members).map { _ in DispatchSemaphore(value: 0) } }

  private func put(_ message: Message) {
    messages.withLock { $0.append(message) }
    filled.signal()
  }

  /// Throws where the run is to stop.
  func report(_ event: GenerationProgress, from member: Int) throws {
    put(.event(event, member))
    answers[member].wait()
    if isStopped.load(ordering: .acquiring) { throw Stopped() }
  }

  func end(_ member: Int, _ result: Result<Void, any Error>) {
    switch result {
    case .success: put(.end(member, nil))
    case .failure(let error): put(.end(member, error is Stopped ? nil : error))
    }
  }

  /// Waits for a message.
  func next() -> Message {
    filled.wait()
    return messages.withLock { $0.removeFirst() }
  }

  func answer(_ member: Int, goesOn: Bool) {
    if !goesOn { isStopped.store(true, ordering: .releasing) }
    answers[member].signal()
  }
}
