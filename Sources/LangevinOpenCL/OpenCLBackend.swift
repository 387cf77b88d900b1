import COpenCL
import Foundation
import LangevinKernels
import LangevinTensor
import Logging
import Synchronization

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

/// Computes on one OpenCL 1.2 device through one in-order queue. Calls are asynchronous: an error of the device
/// may surface at `download` or `synchronize`.
public final class OpenCLBackend: Backend {
  /// `opencl:N`, with N as in `OpenCLDevices.all`.
  public let name: String
  /// What the device says of itself.
  public let description: DeviceDescription
  /// Which form of the kernels it runs.
  public var family: KernelFamily { kernels.family }
  /// Why it runs these.
  public let familyReason: String
  let kernels: any KernelSet
  let context: OpenCLContext
  let pool: BufferPool
  let log = RecordLog()
  /// A source as it is compiled.
  let text: @Sendable (KernelSource) -> String
  /// Kernels, whose arguments are state, and the order of commands.
  private let queue: Mutex<LaunchQueue>

  /// The device with this number in `OpenCLDevices.all`. `memoryLimit` (bytes) lowers what the device offers;
  /// `family` overrides what fits the device, which tests use to run GPU kernels on a CPU; without
  /// `allowSubgroups` kernels reduce in local memory even where subgroups work, and without `allowPairs` products of
  /// bfloat16 are widened even where the processor has an instruction for them. `programCache` and `tuningCache`
  /// are folders, by default under the XDG cache directory. `patch` changes a family's source before it is built,
  /// by which tests break kernels on purpose.
  ///
  /// Throws `OpenCLError`.
  public init(
    index: Int, family: KernelFamily? = nil, memoryLimit: Int? = nil, allowSubgroups: Bool = true,
    allowPairs: Bool = true, programCache: URL? = nil, tuningCache: URL? = nil,
    logger: Logger = Logger(label: "langevin.opencl"),
    patch: (@Sendable (KernelSource, String) -> String)? = nil
  ) throws {
    context = try OpenCLContext(index: index)
    description = context.description
    name = "opencl:\(index)"
    let (device, tuningFolder) = (description, tuningCache ?? CacheFolder.url("tuning"))
    let text: @Sendable (KernelSource) -> String = { patch?($0, $0.text) ?? $0.text }
    self.text = text
    let choice =
      if let family { FamilyChoice(family: family, reason: "as asked") } else {
        try FamilyChoice.of(
          device, sources: Programs.hash(text), folder: tuningFolder, logger: logger
        ) {
          try FamilyChoice.seconds(
            on: OpenCLBackend(
              index: index, family: $0, programCache: programCache, tuningCache: tuningCache, logger: logger,
              patch: patch))
        }
      }
    (kernels, familyReason) = (choice.family.kernels(for: device), choice.reason)
    pool = BufferPool(context: context, deviceName: "\(name) (\(description.name))", limit: memoryLimit)
    // PoCL keeps programs by itself; asked for a binary, it compiles every kernel once more.
    let standard = description.platform == DriverCache.pocl ? nil : ProgramCache.standard
    queue = Mutex(
      LaunchQueue(
        context: context, pool: pool,
        programs: Programs(
          context: context, cache: programCache.map { ProgramCache(directory: $0) } ?? standard,
          logger: logger, text: text),
        tuning: Tuning(
          device: device, cache: TuningCache(device: device, directory: tuningFolder), logger: logger,
          text: text), log: log, allowSubgroups: allowSubgroups,
        dots: DotRecord(
          device, sources: FNV.name(DotInstruction.allCases.map { text($0.source) }.joined()),
          folder: tuningFolder),
        allowPairs: allowPairs, logger: logger))
  }

  /// Bytes in buffers that are in use and that are kept for reuse, the most so far, and the limit.
  public var memory: MemoryUse { pool.use }

  /// A buffer of `byteCount` bytes, from the pool where one fits. Throws `TensorError.outOfMemory`.
  public func allocate(byteCount: Int) throws -> any Storage { try pool.allocate(byteCount) }

  /// Copies host bytes into a buffer, from `byteOffset` on, and waits for the copy.
  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    guard !bytes.isEmpty else { return }
    try guarded("upload") { [context] queue in
      let start = queue.recordingTime
      try context.write(bytes, to: deviceMemory(of: storage), byteOffset: byteOffset)
      queue.recordCopy(.upload, bytes.count, since: start)
    }
  }

  /// Waits for all that was launched before and copies a buffer's bytes, from `byteOffset` on, to the host.
  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    guard !bytes.isEmpty else { return }
    try guarded("download", isLate: true) { [context] queue in
      let start = queue.recordingTime
      try context.read(deviceMemory(of: storage), byteOffset: byteOffset, into: bytes)
      queue.recordCopy(.download, bytes.count, since: start)
    }
  }

  /// Waits for all that was launched. Throws `TensorError.deviceFailure` for what failed meanwhile.
  public func synchronize() throws { try guarded("synchronize", isLate: true) { try $0.finish() } }

  /// Gives the buffers that no tensor uses back to the driver.
  public func releaseCachedMemory() { pool.trim() }

  /// Strided kernels walk over at most six axes, and a GPU's attention needs a head's rows in local memory.
  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool {
    if case .attention(let attention) = operation {
      return kernels.supports(attention, size: inputs[0].shape[2] / attention.heads)
    }
    if case .attentionGradient(let attention) = operation {
      return kernels.supportsGradient(of: attention, size: inputs[0].shape[2] / attention.heads)
    }
    // What is left out here is composed of simpler operations.
    if operation.roundsLeft { return operation.isInt8Product && multipliesBytes }
    let walked: Set<Operation.Kind> = [.reduce, .binary, .concatenate]
    return !walked.contains(operation.kind) || inputs.allSatisfy { $0.shape.rank <= 6 }
  }

  /// Puts an operation's kernels on the queue. Throws `TensorError`.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try guarded(operation.name, requested: output.spec.byteCount) { [kernels] queue in
      try queue.run(operation, inputs, output, by: kernels)
    }
  }

  /// Runs under the lock.
  func locked<R>(_ body: (inout sending LaunchQueue) throws -> sending R) rethrows -> sending R {
    try queue.withLock(body)
  }

  /// Runs under the lock, and says on which device and in which operation an OpenCL call failed; a late one may
  /// have failed in what was launched before.
  func guarded<R>(
    _ operation: @autoclosure () -> String, isLate: Bool = false, requested: Int = 0,
    _ body: (inout sending LaunchQueue) throws -> sending R
  ) throws -> sending R {
    try locked { queue in
      do {
        return try body(&queue)
      } catch OpenCLError.call(_, code: CL_MEM_OBJECT_ALLOCATION_FAILURE) {
        // Drivers may put off a buffer's allocation to its first use.
        let use = pool.use
        throw TensorError.outOfMemory(
          device: "\(name) (\(description.name))", requested: requested, inUse: use.inUse, limit: use.limit)
      } catch let error as OpenCLError {
        throw TensorError.deviceFailure(
          device: "\(name) (\(description.name))",
          operation: operation() + (isLate ? " after \(queue.lastOperationName)" : ""), reason: "\(error)")
      }
    }
  }

  /// Adds two vectors through half storage and compares: compiler, queue and read-back all work.
  func probe() throws {
    let device = Device(self)
    let x = try Tensor((0..<37).map { Float($0) }, [37], on: device)
    let y = try (x.cast(to: .float16) + x.cast(to: .float16)).floats()
    guard y == (0..<37).map({ Float(2 * $0) }) else {
      throw OpenCLError.unusable(device: name, reason: "a probe kernel gave wrong numbers")
    }
  }
}
