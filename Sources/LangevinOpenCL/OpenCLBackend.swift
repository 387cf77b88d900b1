import COpenCL
import Foundation
import LangevinKernels
import LangevinTensor
import Logging

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

/// Which form of the kernels a device runs: a property of its kind, not of its name.
public enum KernelFamily: String, Sendable, Codable, CaseIterable {
  /// Wide vectors, work-group size 1, no local memory.
  case cpu
  /// Tiles in local memory, neighbouring work-items on neighbouring elements.
  case gpu
}

/// Computes on one OpenCL 1.2 device through one in-order queue. Calls are asynchronous: an error of the device
/// may surface at `download` or `synchronize`.
public final class OpenCLBackend: Backend, @unchecked Sendable {
  /// `opencl:N`, with N as in `OpenCLDevices.all`.
  public let name: String
  /// What the device says of itself.
  public let description: DeviceDescription
  /// Which form of the kernels it runs.
  public let family: KernelFamily
  /// Why it runs these.
  public let familyReason: String
  let context: OpenCLContext
  let pool: BufferPool
  let programs: Programs
  let tuning: Tuning
  /// Guards kernels, whose arguments are state, and the order of commands.
  private let lock = NSRecursiveLock()
  /// Set while recording; guarded by the lock.
  var recorder: LaunchRecorder?
  /// Set while kernels are listed or compiled; guarded by the lock.
  var selection: LaunchSelection?
  let log = RecordLog()
  private var lastOperation = "nothing"
  private var zeroBuffer: OpenCLStorage?
  /// Nil until a kernel or a listing asks.
  private var knownSubgroups: Subgroups?
  private let logger: Logger

  /// The device with this number in `OpenCLDevices.all`. `memoryLimit` (bytes) lowers what the device offers;
  /// `family` overrides what fits the device, which tests use to run GPU kernels on a CPU; without
  /// `allowSubgroups` kernels reduce in local memory even where subgroups work. `programCache` and `tuningCache`
  /// are folders, by default under the XDG cache directory. `patch` changes a family's source before it is built,
  /// by which tests break kernels on purpose.
  ///
  /// Throws `OpenCLError`.
  public init(
    index: Int, family: KernelFamily? = nil, memoryLimit: Int? = nil, allowSubgroups: Bool = true,
    programCache: URL? = nil, tuningCache: URL? = nil, logger: Logger = Logger(label: "langevin.opencl"),
    patch: (@Sendable (KernelSource, String) -> String)? = nil
  ) throws {
    context = try OpenCLContext(index: index)
    description = context.description
    name = "opencl:\(index)"
    let (device, tuningFolder) = (description, tuningCache ?? CacheFolder.url("tuning"))
    let text: @Sendable (KernelSource) -> String = { patch?($0, $0.text) ?? $0.text }
    if let family {
      (self.family, familyReason) = (family, "as asked")
    } else {
      let choice = try FamilyChoice.of(
        device, sources: Programs.hash(text), folder: tuningFolder, logger: logger
      ) {
        try FamilyChoice.seconds(
          on: OpenCLBackend(
            index: index, family: $0, programCache: programCache, tuningCache: tuningCache, logger: logger,
            patch: patch))
      }
      (self.family, familyReason) = (choice.family, choice.reason)
    }
    pool = BufferPool(context: context, deviceName: "\(name) (\(description.name))", limit: memoryLimit)
    // PoCL keeps programs by itself; asked for a binary, it compiles every kernel once more.
    let standard = description.platform == DriverCache.pocl ? nil : ProgramCache.standard
    programs = Programs(
      context: context, cache: programCache.map { ProgramCache(directory: $0) } ?? standard, logger: logger,
      patch: patch)
    tuning = Tuning(
      device: description,
      cache: TuningCache(device: description, directory: tuningFolder), logger: logger, text: text)
    self.logger = logger
    if !allowSubgroups { knownSubgroups = .unusable(reason: "they are turned off") }
  }

  /// Bytes in buffers that are in use and that are kept for reuse, the most so far, and the limit.
  public var memory: MemoryUse { pool.use }

  /// Panels for CPU kernels, rows for GPU kernels.
  public func weightLayout(_ use: WeightUse, columns: Int) -> MatrixLayout {
    family == .cpu ? .panels(width: OpenCLBackend.panelWidth, columns: columns) : .rowMajor
  }

  /// A buffer of `byteCount` bytes, from the pool where one fits. Throws `TensorError.outOfMemory`.
  public func allocate(byteCount: Int) throws -> any Storage { try pool.allocate(byteCount) }

  /// Copies host bytes into a buffer, from `byteOffset` on, and waits for the copy.
  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
    try guarded("upload") {
      let blocking = cl_bool(CL_TRUE)
      try recordedCopy(.upload, bytes.count) {
        try check(
          clEnqueueWriteBuffer(
            context.queue, memory(of: storage), blocking, byteOffset, bytes.count, base, 0, nil, nil),
          "clEnqueueWriteBuffer")
      }
    }
  }

  /// Waits for all that was launched before and copies a buffer's bytes, from `byteOffset` on, to the host.
  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
    try guarded("download after \(lastOperation)") {
      let blocking = cl_bool(CL_TRUE)
      try recordedCopy(.download, bytes.count) {
        try check(
          clEnqueueReadBuffer(
            context.queue, memory(of: storage), blocking, byteOffset, bytes.count, base, 0, nil, nil),
          "clEnqueueReadBuffer")
      }
    }
  }

  /// Waits for all that was launched. Throws `TensorError.deviceFailure` for what failed meanwhile.
  public func synchronize() throws {
    try guarded("synchronize after \(lastOperation)") { try check(clFinish(context.queue), "clFinish") }
  }

  /// Gives the buffers that no tensor uses back to the driver.
  public func releaseCachedMemory() { pool.trim() }

  /// Strided kernels walk over at most six axes, and a GPU's attention needs a head's rows in local memory.
  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool {
    switch operation {
    case .reduce, .binary: inputs.allSatisfy { $0.shape.rank <= 6 }
    case .concatenate: inputs[0].shape.rank <= 6
    case .attention(let attention): supports(attention, size: inputs[0].shape[2] / attention.heads)
    default: true
    }
  }

  /// Puts an operation's kernels on the queue. Throws `TensorError`.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try guarded(operation.name, requested: output.spec.byteCount) {
      lastOperation = operation.name
      recorder?.begin(operation, inputs, output, log.nextOperation())
      try dispatch(operation, inputs, output)
    }
  }

  private func dispatch(_ operation: Operation, _ x: [TensorView], _ y: TensorView) throws {
    switch operation {
    case .matmul(let matmul): try self.matmul(matmul, x, y)
    case .conv2d(let conv): try conv2d(conv, x, y)
    case .attention(let attention): try self.attention(attention, x, y)
    case .groupNorm(let norm): try groupNorm(norm, x, y)
    case .layerNorm(let norm): try rowNorm(x, y, epsilon: norm.epsilon, affine: norm.affine, centred: true)
    case .rmsNorm(let epsilon): try rowNorm(x, y, epsilon: epsilon, affine: true, centred: false)
    case .rotary(let rotary): try self.rotary(rotary, x, y)
    case .softmax: try softmax(x[0], y)
    case .unary(let function): try map(function, x[0], y)
    case .affine(let scale, let offset): try affine(x[0], y, scale: scale, offset: offset)
    case .clamp(let lower, let upper): try clamp(x[0], y, lower: lower, upper: upper)
    case .geglu: try geglu(x[0], y)
    case .binary(let function): try binary(function, x[0], x[1], y)
    case .linearCombination(let coefficients): try linearCombination(coefficients, x, y)
    case .reduce(let reduce): try self.reduce(reduce, x[0], y)
    case .embedding: try embedding(table: x[0], ids: x[1], y)
    case .transpose(let permutation): try transpose(permutation, x[0], y)
    case .broadcast(let shape): try broadcast(x[0], to: shape, y)
    case .slice(let slice): try self.slice(slice, x[0], y)
    case .concatenate(let axis): try concatenate(axis, x, y)
    case .pad(let pad): try self.pad(pad, x[0], y)
    case .upsampleNearest(let factor): try upsample(factor, x[0], y)
    case .cast(let dtype): try cast(x[0], y, to: dtype)
    case .normalNoise(let noise): try normalNoise(noise, y)
    case .fill(let value, let spec): try fill(value, spec, y)
    case .arrangeWeight(let arrangement): try arrangeWeight(arrangement, x[0], y)
    case .nonFiniteCount: try nonFiniteCount(x[0], y)
    }
  }

  /// Runs under the lock.
  func locked<R>(_ body: () throws -> R) rethrows -> R {
    lock.lock()
    defer { lock.unlock() }
    return try body()
  }

  /// Runs under the lock, and says on which device and in which operation an OpenCL call failed.
  func guarded(
    _ operation: @autoclosure () -> String, requested: Int = 0, _ body: () throws -> Void
  ) throws {
    lock.lock()
    defer { lock.unlock() }
    do {
      try body()
    } catch OpenCLError.call(_, code: CL_MEM_OBJECT_ALLOCATION_FAILURE) {
      // Drivers may put off a buffer's allocation to its first use.
      let use = pool.use
      throw TensorError.outOfMemory(
        device: "\(name) (\(description.name))", requested: requested, inUse: use.inUse, limit: use.limit)
    } catch let error as OpenCLError {
      throw TensorError.deviceFailure(
        device: "\(name) (\(description.name))", operation: operation(), reason: "\(error)")
    }
  }

  /// At least `count` zeros, for convolutions to read where a tap falls on padding.
  func zeros(_ count: Int) throws -> OpenCLStorage {
    if let zeroBuffer, zeroBuffer.byteCount >= count * 4 { return zeroBuffer }
    let buffer = try pool.allocate(max(count * 4, 1 << 14))
    try [UInt8](repeating: 0, count: buffer.byteCount).withUnsafeBytes {
      try upload($0, to: buffer, byteOffset: 0)
    }
    zeroBuffer = buffer
    return buffer
  }

  /// Probed once, when first asked for.
  func subgroupSupport() -> Subgroups {
    lock.lock()
    defer { lock.unlock() }
    if let knownSubgroups { return knownSubgroups }
    let found = probeSubgroups()
    if case .unusable(let reason) = found, description.subgroups {
      logger.info("\(name): no subgroup reductions: \(reason)")
    }
    knownSubgroups = found
    return found
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

extension DType {
  /// The prelude's name of a storage.
  var kernelName: String {
    switch self {
    case .float32: "f32"
    case .float16: "f16"
    case .bfloat16: "bf16"
    case .int32: "i32"
    }
  }
}
