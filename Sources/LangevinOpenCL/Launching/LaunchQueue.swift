import COpenCL
import LangevinKernels
import LangevinTensor
import Logging

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

/// The way to a device's queue, and all that a launch may change: one thread has it at a time, by the backend's
/// lock. Kernel sets get it with every operation.
struct LaunchQueue: ~Copyable {
  let context: OpenCLContext
  let pool: BufferPool
  let programs: Programs
  var tuning: Tuning
  /// Set while recording.
  var recorder: LaunchRecorder?
  /// Set while kernels are listed or compiled.
  var selection: LaunchSelection?
  let log: RecordLog
  let logger: Logger
  /// For errors that show late.
  private var lastOperation: Operation?
  private var zeroBuffer: OpenCLStorage?
  /// Nil until a kernel or a listing asks.
  private var knownSubgroups: Subgroups?
  /// The same.
  private var knownForms: [DotInstruction: DotForm] = [:]
  private let dotRecord: DotRecord

  init(
    context: OpenCLContext, pool: BufferPool, programs: sending Programs, tuning: sending Tuning,
    log: RecordLog, allowSubgroups: Bool, dots: DotRecord, allowPairs: Bool, logger: Logger
  ) {
    (self.context, self.pool, self.programs) = (context, pool, programs)
    (self.tuning, self.log, self.logger, dotRecord) = (tuning, log, logger, dots)
    if !allowPairs { knownForms[.pairs] = DotForm.none }
    if !allowSubgroups { knownSubgroups = .unusable(reason: "they are turned off") }
  }

  var lastOperationName: String { lastOperation?.name ?? "no operation" }

  /// Puts an operation's kernels on the queue.
  mutating func run(
    _ operation: Operation, _ inputs: [TensorView], _ output: TensorView, by kernels: any KernelSet
  ) throws {
    begin(operation, inputs, output)
    try kernels.launch(operation, inputs, output, on: &self)
  }

  /// What the launches belong to that follow; nil for the packing of weights.
  mutating func begin(_ operation: Operation?, _ inputs: [TensorView], _ output: TensorView) {
    lastOperation = operation
    recorder?.begin(operation, inputs, output, log.nextOperation())
  }

  /// Puts a kernel on the queue. `global` is rounded up to whole work-groups of `local`; without `local` the
  /// driver chooses. Throws `OpenCLError`.
  mutating func launch<K: Kernel>(_ kernel: K, _ program: Program, global: [Int], local: [Int]? = nil) throws
  {
    let start = recordingTime
    guard try selects(kernel, program, global: global, local: local) else { return }
    let handle = try handle(of: K.self, program)
    try examine(handle, K.name, program, local)
    try ArgumentEncoder.set(kernel, on: handle)
    var sizes = global
    if let local {
      for axis in sizes.indices { sizes[axis] = (sizes[axis] + local[axis] - 1) / local[axis] * local[axis] }
    }
    let (queue, rank) = (context.queue, cl_uint(sizes.count))
    // The text is only made while recording.
    try recorded(K.name, program.variant(global: sizes, local: local), since: start) { event in
      let code = clEnqueueNDRangeKernel(queue, handle, rank, nil, sizes, local, 0, nil, event)
      guard code == CL_SUCCESS else {
        throw OpenCLError.call("clEnqueueNDRangeKernel(\(K.name), \(global))", code: code)
      }
    }
  }

  private func handle<K: Kernel>(of kernel: K.Type, _ program: Program) throws -> cl_kernel {
    let key = KernelKey(program: program, kernel: ObjectIdentifier(kernel))
    if let handle = programs.handles[key] { return handle }
    let handle = try programs.kernel(K.name, program.source, options: options(program))
    programs.handles[key] = handle
    return handle
  }

  /// A program's options with those of the device.
  private func options(_ program: Program) -> String {
    program.options + (program.usesSubgroups ? " " + Subgroups.options(on: context.handle) : "")
  }

  /// Whether a launch is to reach the queue, as it is but for listings and compilations.
  private mutating func selects<K: Kernel>(
    _ kernel: K, _ program: Program, global: [Int], local: [Int]?
  ) throws -> Bool {
    guard selection != nil else { return true }
    let options = options(program)
    let variant = KernelVariant(K.name, program.source, options: options, global: global, local: local)
    return try selection?.admits(variant, kernel, program.source, options: options) ?? true
  }

  /// A whole contiguous tensor.
  mutating func copy(_ x: TensorView, to y: TensorView) throws {
    guard selection == nil else { return }
    let queue = context.queue
    try recorded("copy", y.dtype.rawValue, since: recordingTime) { event in
      try check(
        clEnqueueCopyBuffer(
          queue, deviceMemory(of: x), deviceMemory(of: y), x.byteOffset, y.byteOffset, y.spec.byteCount, 0,
          nil, event),
        "clEnqueueCopyBuffer")
    }
  }

  /// Fills a few bytes with zeros; some drivers fail with more.
  mutating func clear(_ y: TensorView) throws {
    guard selection == nil else { return }
    let queue = context.queue
    try recorded("clear", y.dtype.rawValue, since: recordingTime) { event in
      var zero: UInt32 = 0
      try check(
        clEnqueueFillBuffer(
          queue, deviceMemory(of: y), &zero, 4, y.byteOffset, y.spec.byteCount, 0, nil, event),
        "clEnqueueFillBuffer")
    }
  }

  /// Waits for all that was launched.
  func finish() throws { try check(clFinish(context.queue), "clFinish") }

  /// At least `count` zeros, for convolutions to read where a tap falls on padding.
  mutating func zeros(_ count: Int, _ dtype: DType) throws -> TensorView {
    let buffer: OpenCLStorage
    if let zeroBuffer, zeroBuffer.byteCount >= count * 4 {
      buffer = zeroBuffer
    } else {
      buffer = try pool.allocate(max(count * 4, 1 << 14))
      let start = recordingTime
      try [UInt8](repeating: 0, count: buffer.byteCount).withUnsafeBytes {
        try context.write($0, to: buffer.memory.pointer, byteOffset: 0)
      }
      recordCopy(.upload, buffer.byteCount, since: start)
      zeroBuffer = buffer
    }
    return TensorView(storage: buffer, offset: 0, spec: TensorSpec([count], dtype))
  }

  /// Memory for the time until the launches that are queued with it have run.
  func temporary(_ spec: TensorSpec) throws -> TensorView {
    TensorView(storage: try scratch(spec.byteCount), offset: 0, spec: spec)
  }

  /// The same in bytes; as good as nothing while kernels are only listed.
  func scratch(_ byteCount: Int) throws -> OpenCLStorage {
    try pool.allocate(selection?.isListing == true ? 64 : byteCount)
  }

  /// Whether kernels may reduce over subgroups; tried when first asked for.
  mutating func subgroups() -> Subgroups {
    if let knownSubgroups { return knownSubgroups }
    let found = probeSubgroups()
    if case .unusable(let reason) = found, context.description.subgroups {
      logger.info("opencl:\(context.description.index): no subgroup reductions: \(reason)")
    }
    knownSubgroups = found
    return found
  }

  /// How a processor's products of bfloat16 are computed.
  mutating func pairProducts() -> DotForm { form(of: .pairs) }

  /// How a processor's products of int8 are computed; where they are not, they are composed of other operations.
  mutating func byteProducts() -> DotForm { form(of: .bytes) }

  /// Tried when first asked for.
  private mutating func form(of instruction: DotInstruction) -> DotForm {
    if let known = knownForms[instruction] { return known }
    let found = instruction.mayWork(on: context.description) ? probe(instruction, dotRecord) : .none
    knownForms[instruction] = found
    return found
  }
}
