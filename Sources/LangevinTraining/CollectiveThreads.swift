import Foundation
import Synchronization

/// Ranks on threads of this process, such as one for each device, that add through its memory.
public struct ThreadCollective: Collective {
  /// Which thread this is.
  public let rank: Int
  /// How many threads there are.
  public var count: Int { meeting.count }

  private let meeting: Meeting

  /// Runs the body on a thread for each rank and returns what they returned, in the order of the ranks.
  ///
  /// Where a rank throws, the others throw from their next sum. Rethrows the first rank's error where every rank failed
  /// by itself; else throws `CollectiveError.rankFailed`.
  public static func run<Result: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (ThreadCollective) throws -> Result
  ) throws -> [Result] {
    let meeting = Meeting(count: count)
    let results = Results<Result>(count)
    let threads = DispatchGroup()
    for rank in 0..<count {
      threads.enter()
      let thread = Thread {
        let result = Swift.Result { try body(ThreadCollective(rank: rank, meeting: meeting)) }
        results.set(result, of: rank)
        switch result {
        case .success: meeting.fail(rank, "it ended before the others")
        case .failure(let error): meeting.fail(rank, "\(error)")
        }
        threads.leave()
      }
      thread.name = "rank \(rank)"
      // As much as the main thread has on most systems; others get a fraction of it.
      thread.stackSize = 8 << 20
      thread.start()
    }
    threads.wait()
    return try results.all()
  }

  /// Throws `CollectiveError`.
  public func sum(_ values: inout [Float]) throws {
    try values.withUnsafeMutableBufferPointer { own in
      guard let start = own.baseAddress else {
        _ = try meeting.arrive(rank, .init(address: 0, size: 0))
        return try meeting.leave(rank)
      }
      let all = try meeting.arrive(rank, .init(address: UInt(bitPattern: start), size: own.count))
      add(RankOrder.part(of: own.count, rank: rank, count: count), of: all)
      try meeting.leave(rank)
    }
  }

  /// Writes the sum of a part of all ranks' numbers into every rank's. Nobody else touches this part meanwhile.
  private func add(_ part: Range<Int>, of all: [Meeting.Numbers]) {
    let pointers = all.compactMap { UnsafeMutablePointer<Float>(bitPattern: $0.address) }
    // Small enough to stay in the core's cache until it is written.
    let block = 4096
    withUnsafeTemporaryAllocation(of: Float.self, capacity: block) { buffer in
      guard let sum = buffer.baseAddress else { return }
      for start in stride(from: part.lowerBound, to: part.upperBound, by: block) {
        let size = min(block, part.upperBound - start)
        sum.update(from: pointers[0] + start, count: size)
        for other in pointers.dropFirst() { RankOrder.add(other + start, to: sum, count: size) }
        for pointer in pointers { (pointer + start).update(from: sum, count: size) }
      }
    }
  }
}

/// What the threads returned or threw.
private final class Results<Value: Sendable>: Sendable {
  private let values: Mutex<[Result<Value, any Error>?]>

  init(_ count: Int) { values = Mutex(Array(repeating: nil, count: count)) }

  func set(_ value: Result<Value, any Error>, of rank: Int) { values.withLock { $0[rank] = value } }

  /// Throws as `ThreadCollective.run` does.
  func all() throws -> [Value] {
    let values = values.withLock { $0.compactMap { $0 } }
    let failures = values.enumerated().compactMap { rank, value -> (rank: Int, error: any Error)? in
      guard case .failure(let error) = value else { return nil }
      // Not those that only tell of another.
      if case CollectiveError.rankFailed = error { return nil }
      return (rank, error)
    }
    guard let first = failures.first else { return try values.map { try $0.get() } }
    if failures.count == values.count { throw first.error }
    throw CollectiveError.rankFailed(rank: first.rank, count: values.count, reason: "\(first.error)")
  }
}

/// Where the threads wait for each other, twice in each sum: until all numbers are there, and until all are added.
private final class Meeting: Sendable {
  /// One rank's numbers. They stay where they are from `arrive` to `leave`.
  struct Numbers { var address: UInt, size: Int }

  private struct State {
    var numbers: [Numbers]
    var waiting: [Int] = []
    var failure: CollectiveError?
    /// Why a rank was woken, where that was for a failure.
    var causes: [CollectiveError?]
  }

  let count: Int
  private let state: Mutex<State>
  private let semaphores: [DispatchSemaphore]

  init(count: Int) {
    self.count = count
    semaphores = (0..<count).map { _ in DispatchSemaphore(value: 0) }
    state = Mutex(
      State(
        numbers: Array(repeating: Numbers(address: 0, size: 0), count: count),
        causes: Array(repeating: nil, count: count)))
  }

  /// Returns all ranks' numbers once they are there.
  func arrive(_ rank: Int, _ numbers: Numbers) throws -> [Numbers] {
    state.withLock { $0.numbers[rank] = numbers }
    try wait(rank)
    let all = state.withLock { $0.numbers }
    if all.contains(where: { $0.size != all[0].size }) {
      throw CollectiveError.differentSizes(all.map(\.size))
    }
    return all
  }

  /// Returns once all have added.
  func leave(_ rank: Int) throws { try wait(rank) }

  /// From here on nobody is waited for. The first failure counts.
  func fail(_ rank: Int, _ reason: String) {
    let woken = state.withLock { state in
      let failure = state.failure ?? .rankFailed(rank: rank, count: count, reason: reason)
      state.failure = failure
      defer { state.waiting = [] }
      for rank in state.waiting { state.causes[rank] = failure }
      return state.waiting
    }
    for rank in woken { semaphores[rank].signal() }
  }

  private func wait(_ rank: Int) throws {
    let others: [Int]? = try state.withLock { state in
      if let failure = state.failure { throw failure }
      state.waiting.append(rank)
      guard state.waiting.count == count else { return nil }
      defer { state.waiting = [] }
      return state.waiting.dropLast()
    }
    if let others {
      for rank in others { semaphores[rank].signal() }
    } else {
      semaphores[rank].wait()
      if let cause = state.withLock({ $0.causes[rank] }) { throw cause }
    }
  }
}
