import Synchronization

/// One kernel that ran while its backend was recording. An operation may launch several.
public struct KernelRecord: Sendable {
  /// What it computed, or a part of; nil for one that packed a weight.
  public var operation: Operation?
  /// The operands' shapes and dtypes.
  public var inputs: [TensorSpec]
  /// The output's shape and dtype.
  public var output: TensorSpec
  /// `LayerPath.current` at the launch.
  public var path: String
  /// Alike for the kernels of one operation; ascending from 0 at the start of the recording.
  public var sequence: Int
  /// The kernel's name; on the CPU the operation's.
  public var kernel: String
  /// What selects the variant: build options and sizes.
  public var variant: String
  /// Device clock, nanoseconds: when the host enqueued it.
  public var queued: UInt64
  /// Device clock, nanoseconds: when the queue gave it to the device.
  public var submitted: UInt64
  /// When the kernel began, in nanoseconds of the device's clock.
  public var started: UInt64
  /// When the kernel ended, in nanoseconds of the device's clock.
  public var ended: UInt64
  /// `HostClock` nanoseconds: when the host began to prepare the launch.
  public var hostStart: UInt64
  /// `HostClock` nanoseconds: when the call that enqueued it returned; on the CPU, when it was done.
  public var hostEnd: UInt64
  /// The most bytes of the backend's memory in use since the record before.
  public var memory: Int

  /// What it is called in profiles: the operation's label, or `pack`.
  public var label: String { operation?.label ?? "pack" }
  /// What sort of work it is.
  public var family: OperationFamily { operation?.family ?? .movement }

  /// Nanoseconds on the device.
  public var duration: UInt64 { ended - started }

  /// A record of these values; see the properties.
  public init(
    operation: Operation?, inputs: [TensorSpec], output: TensorSpec, path: String, sequence: Int,
    kernel: String, variant: String, queued: UInt64, submitted: UInt64, started: UInt64, ended: UInt64,
    hostStart: UInt64, hostEnd: UInt64, memory: Int
  ) {
    self.operation = operation
    self.inputs = inputs
    self.output = output
    self.path = path
    self.sequence = sequence
    self.kernel = kernel
    self.variant = variant
    self.queued = queued
    self.submitted = submitted
    self.started = started
    self.ended = ended
    self.hostStart = hostStart
    self.hostEnd = hostEnd
    self.memory = memory
  }
}

/// One copy between host and device while its backend was recording.
public struct TransferRecord: Sendable, Hashable {
  /// Seen from the host.
  public enum Direction: String, Sendable, Hashable, Codable { case upload, download }
  /// Whether the copy went to the device or from it.
  public var direction: Direction
  /// How many bytes were copied.
  public var bytes: Int
  /// `LayerPath.current` at the call.
  public var path: String
  /// When the copy began, in `HostClock`'s nanoseconds.
  public var hostStart: UInt64
  /// `HostClock` nanoseconds. A download's includes the wait for the work that it depends on.
  public var hostEnd: UInt64

  /// A copy of these values.
  public init(direction: Direction, bytes: Int, path: String, hostStart: UInt64, hostEnd: UInt64) {
    self.direction = direction
    self.bytes = bytes
    self.path = path
    self.hostStart = hostStart
    self.hostEnd = hostEnd
  }
}

/// Where a backend keeps its records; off until `start`.
public final class RecordLog: Sendable {
  private struct State {
    var isOn = false
    var sequence = 0
    var kernels: [KernelRecord] = []
    var transfers: [TransferRecord] = []
  }
  private let state = Mutex(State())

  /// A log that records nothing until it is switched on.
  public init() {}

  /// Whether the backend is to record.
  public var isOn: Bool { state.withLock { $0.isOn } }

  /// Turns it on, without records.
  public func start() { state.withLock { $0 = State(isOn: true) } }
  /// Turns it off and forgets what was not taken.
  public func stop() { state.withLock { $0 = State() } }

  /// The number of the next operation, or nil while off.
  public func nextOperation() -> Int? {
    state.withLock { state in
      guard state.isOn else { return nil }
      defer { state.sequence += 1 }
      return state.sequence
    }
  }

  /// Keeps a record.
  public func add(_ record: KernelRecord) { state.withLock { $0.kernels.append(record) } }
  /// Keeps a record.
  public func add(_ record: TransferRecord) { state.withLock { $0.transfers.append(record) } }

  /// Hands over the kernels so far.
  public func takeKernels() -> [KernelRecord] {
    state.withLock { state in
      defer { state.kernels = [] }
      return state.kernels
    }
  }

  /// Hands over the copies so far.
  public func takeTransfers() -> [TransferRecord] {
    state.withLock { state in
      defer { state.transfers = [] }
      return state.transfers
    }
  }
}
