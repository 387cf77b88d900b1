import COpenCL
import LangevinTensor

/// A kernel with the arguments of one launch: one type a kernel, with a property for each parameter.
protocol Kernel: Sendable {
  /// As its source calls it.
  static var name: String { get }
  /// Hands over the arguments in the order of the kernel's parameters, each with its parameter's name. A test
  /// holds this against what the driver says of the built kernel.
  func encode(to arguments: inout ArgumentEncoder) throws
}

/// Sets a kernel's arguments one after another, or lists them.
struct ArgumentEncoder {
  /// Nil where they are only listed.
  private let handle: cl_kernel?
  private let kernel: String
  private var slot: cl_uint = 0
  /// What was listed.
  private(set) var parameters: [KernelParameter] = []

  private init(_ handle: cl_kernel?, _ kernel: String) { (self.handle, self.kernel) = (handle, kernel) }

  /// Throws `OpenCLError`.
  static func set<K: Kernel>(_ kernel: K, on handle: cl_kernel) throws {
    var encoder = ArgumentEncoder(handle, K.name)
    try kernel.encode(to: &encoder)
  }

  /// A launch's parameters as its type has them. Throws as `set` does.
  static func list<K: Kernel>(_ kernel: K) throws -> [KernelParameter] {
    var encoder = ArgumentEncoder(nil, K.name)
    try kernel.encode(to: &encoder)
    return encoder.parameters
  }

  /// A tensor that is read, two parameters: `name`, and `name` with a 0, its first element. Nil for one that this
  /// launch's kernel never reads.
  mutating func reads(_ name: StaticString, _ view: TensorView?) throws {
    try buffer("\(name)", view.map { try deviceMemory(of: $0) }, isWritten: false)
    try set(UInt64(view?.offset ?? 0), KernelParameter("\(name)0", .ulong))
  }

  /// A tensor that is written, two parameters as for `reads`.
  mutating func writes(_ name: StaticString, _ view: TensorView) throws {
    try buffer("\(name)", deviceMemory(of: view), isWritten: true)
    try set(UInt64(view.offset), KernelParameter("\(name)0", .ulong))
  }

  /// A whole buffer that is read, one parameter.
  mutating func reads(_ name: StaticString, scratch: OpenCLStorage) throws {
    try buffer("\(name)", scratch.memory.pointer, isWritten: false)
  }

  /// A whole buffer that is written, one parameter. Nil for one that this launch's kernel never writes.
  mutating func writes(_ name: StaticString, scratch: OpenCLStorage?) throws {
    try buffer("\(name)", scratch?.memory.pointer, isWritten: true)
  }

  /// Throws `OpenCLError.tooLarge` for what 32 bits cannot hold.
  mutating func int(_ name: StaticString, _ value: Int) throws { try narrow(value, "\(name)") }

  mutating func flag(_ name: StaticString, _ value: Bool) throws { try narrow(value ? 1 : 0, "\(name)") }

  mutating func ulong(_ name: StaticString, _ value: Int) throws {
    try set(UInt64(value), KernelParameter("\(name)", .ulong))
  }

  mutating func uint(_ name: StaticString, _ value: UInt32) throws {
    try set(value, KernelParameter("\(name)", .uint))
  }

  mutating func float(_ name: StaticString, _ value: Float) throws {
    try set(value, KernelParameter("\(name)", .float))
  }

  /// Parameters whose names end in a number, from `first` on.
  mutating func ints(_ name: StaticString, from first: Int, _ values: some Sequence<Int>) throws {
    var number = first
    for value in values {
      try narrow(value, "\(name)\(number)")
      number += 1
    }
  }

  /// As `ints`.
  mutating func ulongs(_ name: StaticString, from first: Int, _ values: some Sequence<Int>) throws {
    var number = first
    for value in values {
      try set(UInt64(value), KernelParameter("\(name)\(number)", .ulong))
      number += 1
    }
  }

  private mutating func narrow(_ value: Int, _ name: @autoclosure () -> String) throws {
    guard let narrow = Int32(exactly: value) else { throw OpenCLError.tooLarge(kernel: kernel, value: value) }
    try set(narrow, KernelParameter(name(), .int))
  }

  private mutating func buffer(_ name: @autoclosure () -> String, _ memory: cl_mem?, isWritten: Bool) throws {
    try set(memory, KernelParameter(name(), .buffer(isWritten: isWritten)))
  }

  /// The description is only made for a list.
  private mutating func set<T: BitwiseCopyable>(
    _ value: T, _ parameter: @autoclosure () -> KernelParameter
  ) throws {
    guard let handle else { return parameters.append(parameter()) }
    let code = withUnsafeBytes(of: value) { clSetKernelArg(handle, slot, $0.count, $0.baseAddress) }
    guard code == CL_SUCCESS else { throw OpenCLError.call("clSetKernelArg(\(kernel), \(slot))", code: code) }
    slot += 1
  }
}

/// The device's memory behind an operand. Throws `OpenCLError.foreignStorage`.
func deviceMemory(of view: TensorView) throws -> cl_mem { try deviceMemory(of: view.storage) }

/// The device's memory behind a storage. Throws `OpenCLError.foreignStorage`.
func deviceMemory(of storage: any Storage) throws -> cl_mem {
  guard let storage = storage as? OpenCLStorage else { throw OpenCLError.foreignStorage }
  return storage.memory.pointer
}
