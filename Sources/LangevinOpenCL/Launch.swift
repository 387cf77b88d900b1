import COpenCL
import LangevinKernels
import LangevinTensor

/// A kernel's argument. `operand` and `none` fill two slots: the buffer and its offset in elements.
enum Argument {
  case operand(TensorView)
  /// An operand that this variant of the kernel never reads.
  case none
  case scratch(OpenCLStorage)
  case int(Int)
  case ulong(Int)
  case uint(UInt32)
  case float(Float)

}

extension [Argument] {
  mutating func append(ints values: [Int]) { append(contentsOf: values.map { Argument.int($0) }) }
  mutating func append(ulongs values: [Int]) { append(contentsOf: values.map { Argument.ulong($0) }) }
}

/// A kernel with everything that selects its variant.
struct Launch {
  var kernel: String
  var source: KernelSource
  /// `-D` definitions in a fixed order: they are part of the kernel's key.
  var definitions: [(String, String)]
  var global: [Int]
  /// Nil lets the driver choose.
  var local: [Int]?
  var arguments: [Argument]

  init(
    _ kernel: String, _ source: KernelSource,
    _ definitions: KeyValuePairs<String, any CustomStringConvertible>,
    global: [Int], local: [Int]? = nil, _ arguments: [Argument]
  ) {
    self.kernel = kernel
    self.source = source
    self.definitions = definitions.map { ($0.key, $0.value.description) }
    self.global = global
    self.local = local
    self.arguments = arguments
  }

  var options: String {
    let defines = definitions.map { "-D\($0.0)=\($0.1)" }
    // Contraction changes bits, which the noise must not.
    return ((source == .noise ? [] : ["-cl-mad-enable"]) + defines).joined(separator: " ")
  }

  /// `T=f32 VW=16 global=4,128 local=1,1`, for records.
  func variant(global: [Int]) -> String {
    func list(_ sizes: [Int]) -> String { sizes.map(String.init).joined(separator: ",") }
    let parts = definitions.map { "\($0.0)=\($0.1)" } + ["global=" + list(global)]
    return (parts + (local.map { ["local=" + list($0)] } ?? [])).joined(separator: " ")
  }
}

extension OpenCLBackend {
  /// Sets the arguments and puts the kernel on the queue. Called under the lock.
  func launch(_ launch: Launch) throws {
    try self.launch(launch, extraOptions: teamOptions(launch.source))
  }

  /// With compiler options that depend on the device.
  func launch(_ launch: Launch, extraOptions: String) throws {
    let start = recorder == nil ? 0 : HostClock.now
    let options = launch.options + extraOptions
    if let selection, !selection.admits(KernelVariant(launch, options: options)) { return }
    let kernel = try programs.kernel(launch.kernel, launch.source, options: options)
    try examine(kernel, launch)
    var slot: cl_uint = 0
    func set<T: BitwiseCopyable>(_ value: T) throws {
      let code = withUnsafeBytes(of: value) { clSetKernelArg(kernel, slot, $0.count, $0.baseAddress) }
      try check(code, "clSetKernelArg(\(launch.kernel), \(slot))")
      slot += 1
    }
    for argument in launch.arguments {
      switch argument {
      case .operand(let view):
        try set(Optional(memory(of: view.storage)))
        try set(UInt64(view.offset))
      case .none:
        try set(cl_mem?.none)
        try set(UInt64(0))
      case .scratch(let storage): try set(Optional(storage.memory))
      case .int(let value):
        guard let value = Int32(exactly: value) else {
          throw OpenCLError.tooLarge(kernel: launch.kernel, value: value)
        }
        try set(value)
      case .ulong(let value): try set(UInt64(value))
      case .uint(let value): try set(value)
      case .float(let value): try set(value)
      }
    }
    var global = launch.global
    if let local = launch.local {
      for axis in global.indices {
        global[axis] = (global[axis] + local[axis] - 1) / local[axis] * local[axis]
      }
    }
    let rank = cl_uint(global.count)
    // Only evaluated while recording.
    let subgroups = extraOptions.isEmpty ? "" : " SUBGROUPS=1"
    try recorded(launch.kernel, launch.variant(global: global) + subgroups, since: start) { event in
      try check(
        clEnqueueNDRangeKernel(context.queue, kernel, rank, nil, global, launch.local, 0, nil, event),
        "clEnqueueNDRangeKernel(\(launch.kernel), \(launch.global))")
    }
  }

  func memory(of storage: any Storage) -> cl_mem {
    guard let storage = storage as? OpenCLStorage else { preconditionFailure("a storage of another backend") }
    return storage.memory
  }
}
