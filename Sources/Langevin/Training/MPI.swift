import Foundation
import LangevinTraining
import Synchronization

/// The processes that an MPI launcher started, on one machine or several.
///
/// A sum costs each rank as many bytes as a ring does: every rank receives all others' numbers for its own part, adds
/// them in the order of the ranks, and gives the result to all.
public final class MPI: Collective {
  public let rank: Int
  public let count: Int
  /// Which of the processes on this machine this is, from 0.
  public let localRank: Int
  /// How many of the processes run on this machine.
  public let localCount: Int
  /// The cores of this machine that this rank uses.
  public let cores: [Int]
  /// The library's name and version.
  public var version: String { library.version }

  private let library: MPILibrary
  private let state = Mutex(State())
  /// Numbers of its own part that a rank adds at a time.
  private static let block = 1 << 17
  /// How long others may take to hear of a failure. They may be in the middle of a step.
  private static let patience = Duration.seconds(5)

  private struct State {
    /// What came from all ranks for this one's part.
    var received: [Float] = []
    /// The first rank that failed, or ended before the others.
    var failure: CollectiveError?
  }

  // MARK: Start and end

  private struct Running {
    var isStarted = false
    var library: MPILibrary?
    /// Whether all ranks know that the others call nothing any more.
    var isSettled = false
    var teller: Int?
  }
  private static let running = Mutex(Running())

  /// The rank that tells the user why the run failed, once the ranks have agreed.
  static var teller: Int? { running.withLock { $0.teller } }

  /// Starts MPI and takes this rank's share of the machine's cores; open devices afterwards. All ranks call it, once.
  ///
  /// Throws `MPIError`.
  static func start(_ launcher: MPILauncher, environment: [String: String]) throws -> MPI {
    let library = try MPILibrary(launcher.family, environment: environment)
    try running.withLock {
      if $0.isStarted { throw MPIError.startedTwice }
      $0.isStarted = true
    }
    let mpi = try MPI(library, launcher)
    running.withLock { $0.library = library }
    // At the exit, and not before the user is told: a launcher that ends all lets nobody out of MPI_Finalize. Whichever
    // way this process ends, it leaves nobody waiting.
    atexit {
      let running = MPI.running.withLock { $0 }
      guard let library = running.library else { return }
      _ = running.isSettled ? library.finalize() : library.abort(library.world, 1)
    }
    return mpi
  }

  private init(_ library: MPILibrary, _ launcher: MPILauncher) throws {
    // From any thread, one at a time.
    let serialized: Int32 = 2
    var (level, rank, count) = (Int32(0), Int32(0), Int32(0))
    try library.check("MPI_Init_thread", library.initialize(nil, nil, serialized, &level))
    try library.check("MPI_Comm_set_errhandler", library.setErrorHandler(library.world, library.errorsReturn))
    try library.check("MPI_Comm_rank", library.rank(library.world, &rank))
    try library.check("MPI_Comm_size", library.size(library.world, &count))
    (self.library, self.rank, self.count) = (library, Int(rank), Int(count))
    let places = try Self.gathered(CorePlace.current.bytes, Int(count), library)
      .compactMap { CorePlace(bytes: $0) }
    let neighbours = places.indices.filter { places[$0].machine == places[Int(rank)].machine }
    localRank = neighbours.firstIndex(of: Int(rank)) ?? 0
    localCount = neighbours.count
    cores = CorePlace.share(of: Int(rank), among: places)
    CorePlace.keep(to: cores)
    if level < serialized { throw MPIError.noThreads(library: library.version) }
    if let expected = launcher.count, expected != self.count {
      throw MPIError.wrongLauncher(library: library.version, size: self.count, expected: expected)
    }
  }

  /// Runs the body, after which MPI ends with this process: orderly where the body returned, and where it threw and the
  /// others hear of it in time. Else the launcher ends the others too.
  ///
  /// Throws the body's error where every rank failed by itself; else every rank throws `CollectiveError.rankFailed` with
  /// the first that did.
  func run<Result>(_ body: (MPI) throws -> Result) throws -> Result {
    let result: Result
    do {
      result = try body(self)
      try meet(.end)
    } catch {
      throw settle(error)
    }
    finish()
    return result
  }

  /// Tells the others of an error, and returns what to throw.
  private func settle(_ error: any Error) -> any Error {
    var (result, teller) = (error, rank)
    if let failure = state.withLock({ $0.failure }) {
      if case .rankFailed(let rank, _, _) = failure { teller = rank }
      finish()
    } else if let messages = try? exchange(.failure("\(error)"), patience: Self.patience) {
      let failed = messages.indices.filter { messages[$0].isFailure }
      teller = failed.first ?? rank
      if failed.count < count {
        result = CollectiveError.rankFailed(rank: teller, count: count, reason: messages[teller].text)
      }
      finish()
    } else {
      result = CollectiveError.rankFailed(rank: rank, count: count, reason: "\(error)")
    }
    MPI.running.withLock { $0.teller = teller }
    return result
  }

  private func finish() { MPI.running.withLock { $0.isSettled = true } }

  // MARK: Sum

  /// Throws `CollectiveError`, and `MPIError.call` where a rank cannot be reached.
  public func sum(_ values: inout [Float]) throws {
    let sizes = try meet(.numbers(values.count)).map(\.number)
    if sizes.contains(where: { $0 != values.count }) { throw CollectiveError.differentSizes(sizes) }
    let step = Self.block * count
    try state.withLock { state in
      let needed = min(step, values.count + count)
      if state.received.count < needed { state.received = [Float](repeating: 0, count: needed) }
      try values.withUnsafeMutableBufferPointer { values in
        try state.received.withUnsafeMutableBufferPointer { received in
          guard let values = values.baseAddress, let received = received.baseAddress else { return }
          for start in stride(from: 0, to: sizes[0], by: step) {
            try sum(values + start, min(step, sizes[0] - start), received)
          }
        }
      }
    }
  }

  private func sum(
    _ values: UnsafeMutablePointer<Float>, _ size: Int, _ received: UnsafeMutablePointer<Float>
  ) throws {
    let parts = (0..<count).map { RankOrder.part(of: size, rank: $0, count: count) }
    let (starts, sizes) = (parts.map { Int32($0.lowerBound) }, parts.map { Int32($0.count) })
    let own = parts[rank].count
    let (places, shares) = (
      (0..<count).map { Int32($0 * own) }, [Int32](repeating: Int32(own), count: count)
    )
    try library.check(
      "MPI_Alltoallv",
      library.exchange(
        values, sizes, starts, library.float, received, shares, places, library.float, library.world))
    let sum = values + parts[rank].lowerBound
    sum.update(from: received, count: own)
    for other in 1..<max(1, count) { RankOrder.add(received + other * own, to: sum, count: own) }
    try library.check(
      "MPI_Allgatherv",
      library.gather(
        UnsafeRawPointer(bitPattern: library.inPlace), 0, library.float, values, sizes, starts, library.float,
        library.world))
  }

  // MARK: Messages

  /// What a rank says before each exchange.
  enum Message: Equatable {
    case numbers(Int)
    case failure(String)
    case end

    static let size = 512

    var isFailure: Bool { if case .failure = self { true } else { false } }
    var number: Int { if case .numbers(let count) = self { count } else { 0 } }
    var text: String { if case .failure(let text) = self { text } else { "it ended before the others" } }

    /// A number of 8 bytes, and a text that zeros end.
    var bytes: [UInt8] {
      var (number, text) = (Int64(0), "")
      switch self {
      case .numbers(let count): number = Int64(count)
      case .failure(let reason): (number, text) = (-1, reason)
      case .end: number = -2
      }
      let bytes = withUnsafeBytes(of: number.littleEndian) { Array($0) } + text.utf8.prefix(Self.size - 8)
      return bytes + [UInt8](repeating: 0, count: Self.size - bytes.count)
    }

    init(bytes: [UInt8]) {
      let number = bytes.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      switch Int64(bitPattern: number) {
      case -1: self = .failure(String(decoding: bytes.dropFirst(8).prefix { $0 != 0 }, as: UTF8.self))
      case -2: self = .end
      case let count: self = .numbers(Int(count))
      }
    }
  }

  /// Exchanges a message with all ranks, each of which wants to do the same.
  ///
  /// Throws `CollectiveError.rankFailed` where one has failed, or some end and others do not.
  @discardableResult
  private func meet(_ message: Message) throws -> [Message] {
    if let failure = state.withLock({ $0.failure }) { throw failure }
    guard let messages = try exchange(message, patience: nil) else { return [] }
    let odd =
      messages.firstIndex(where: \.isFailure)
      ?? (messages.allSatisfy { $0 == .end } ? nil : messages.firstIndex(of: .end))
    guard let odd else { return messages }
    let failure = CollectiveError.rankFailed(rank: odd, count: count, reason: messages[odd].text)
    state.withLock { $0.failure = failure }
    throw failure
  }

  /// Returns all ranks' messages, or nil where some rank did not come in time.
  private func exchange(_ message: Message, patience: Duration?) throws -> [Message]? {
    try Self.gathered(message.bytes, count, library, patience: patience)?.map { Message(bytes: $0) }
  }

  private static func gathered(_ bytes: [UInt8], _ count: Int, _ library: MPILibrary) throws -> [[UInt8]] {
    try gathered(bytes, count, library, patience: nil) ?? []
  }

  /// Waits asleep, as a rank may be a step behind, and preparing the next batch wants the core.
  private static func gathered(
    _ bytes: [UInt8], _ count: Int, _ library: MPILibrary, patience: Duration?
  ) throws -> [[UInt8]]? {
    // Where they are until the request is done. After a time-out it never is, and they stay.
    let sent = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
    let received = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count * count, alignment: 8)
    sent.copyBytes(from: bytes)
    var (request, isDone) = (UInt(0), Int32(0))
    try library.check(
      "MPI_Iallgather",
      library.startGather(
        sent.baseAddress, Int32(bytes.count), library.byte, received.baseAddress, Int32(bytes.count),
        library.byte, library.world, &request))
    let start = ContinuousClock.now
    while true {
      try library.check(
        "MPI_Test",
        library.test(&request, &isDone, UnsafeMutableRawPointer(bitPattern: library.ignoredStatus)))
      if isDone != 0 { break }
      let waited = ContinuousClock.now - start
      if let patience, waited > patience { return nil }
      if waited > .microseconds(50) { usleep(50) }
    }
    defer {
      sent.deallocate()
      received.deallocate()
    }
    return (0..<count).map { Array(received[$0 * bytes.count..<($0 + 1) * bytes.count]) }
  }
}
