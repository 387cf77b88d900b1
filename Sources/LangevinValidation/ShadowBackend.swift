import LangevinTensor
import Synchronization

/// Computes on a device, and holds every operation's output to a reference that computes from the same inputs.
///
/// Errors do not add up that way: the first operation that leaves its tolerance is the one at fault, and not one
/// further down that inherited wrong numbers. It throws `Divergence` there.
public final class ShadowBackend: Backend {
  private let backend: any Backend
  private let reference: Device
  private let record = Mutex(ShadowRecord())

  /// A device and what it is held to. Throws what `startRecording` throws: kernels are named in a divergence.
  public init(_ backend: any Backend, reference: any Backend) throws {
    self.backend = backend
    self.reference = Device(reference)
    try backend.startRecording()
  }

  /// What was compared so far.
  public var compared: ShadowRecord { record.withLock { $0 } }

  public var name: String { backend.name }
  public var memory: MemoryUse { backend.memory }

  public func weightLayout(_ use: WeightUse, columns: Int) -> MatrixLayout {
    backend.weightLayout(use, columns: columns)
  }

  public func allocate(byteCount: Int) throws -> any Storage { try backend.allocate(byteCount: byteCount) }

  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> (any Storage)? {
    backend.adopt(bytes, owner: owner)
  }

  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    try backend.upload(bytes, to: storage, byteOffset: byteOffset)
  }

  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    try backend.download(storage, byteOffset: byteOffset, into: bytes)
  }

  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool {
    backend.supports(operation, inputs: inputs)
  }

  public func synchronize() throws { try backend.synchronize() }

  /// Runs on the device and on the reference, and compares. Throws `Divergence`, and what either throws.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try backend.execute(operation, inputs: inputs, output: output)
    let kernels = try backend.takeRecords()
    _ = try backend.takeTransfers()
    let operands = try inputs.map(read)
    let got = try read(output)
    let finding = try compare(operation, operands, got)
    record.withLock { $0.add(operation, path: LayerPath.current, ratio: finding.ratio) }
    guard let problem = finding.problem else { return }
    throw Divergence(
      operation: operation, inputs: operands, output: got, path: LayerPath.current, device: backend.name,
      reference: reference.name, kernels: kernels.map { "\($0.kernel) \($0.variant)" }, ratio: finding.ratio,
      problem: problem)
  }

  private func read(_ view: TensorView) throws -> Operand {
    let bytes = try [UInt8](unsafeUninitializedCapacity: view.spec.byteCount) { buffer, count in
      if !buffer.isEmpty {
        try backend.download(
          view.storage, byteOffset: view.byteOffset, into: UnsafeMutableRawBufferPointer(buffer))
      }
      count = view.spec.byteCount
    }
    return Operand(view.spec, bytes: bytes)
  }

  private func compare(_ operation: Operation, _ inputs: [Operand], _ got: Operand) throws
    -> (ratio: Double, problem: String?)
  {
    func evaluate(_ operation: Operation, _ arrays: [HostArray]) throws -> HostArray {
      try HostArray(
        Tensor.apply(operation, arrays.map { try $0.tensor(on: reference) }, on: reference))
    }
    // In float32 whatever the storage, so that the expected value is not rounded a second time.
    let wide = inputs.map(\.widened.array)
    let expected = try evaluate(operation, wide)
    // Both devices have an error of their own.
    let bound = try Tolerance.bound(operation, wide, value: expected, evaluate: evaluate)?.map { 2 * $0 }
    let dtype = got.spec.dtype
    let values = got.array.values
    var (worst, place) = (0.0, 0)
    for (i, (value, target)) in zip(values, expected.values).enumerated() {
      let error = dtype.error(value, target)
      guard error > 0 else { continue }
      let ratio = error / dtype.allowance(bound?[i], at: target)
      if !(ratio <= worst) { (worst, place) = (ratio.isNaN ? .infinity : ratio, i) }
    }
    func at(_ i: Int) -> String {
      "element \(Reference.coordinates(i, got.spec.shape)) is \(values[i]), expected \(expected.values[i])"
    }
    if worst > 1 { return (worst, at(place)) }
    // Both agree, and yet a picture cannot come of it.
    if let i = values.firstIndex(where: { !$0.isFinite }), !inputs.isEmpty,
      wide.allSatisfy({ $0.values.allSatisfy(\.isFinite) })
    {
      return (worst, at(i) + ": not finite in \(dtype.rawValue) from finite inputs, on the reference too")
    }
    return (worst, nil)
  }
}

/// What a `ShadowBackend` compared.
public struct ShadowRecord: Sendable, Hashable {
  /// How many operations were compared.
  public private(set) var operations = 0
  /// The largest error relative to what is allowed.
  public private(set) var worst = 0.0
  /// In which operation that was.
  public private(set) var worstOperation = ""
  /// In which layer that was.
  public private(set) var worstPath = ""

  mutating func add(_ operation: Operation, path: String, ratio: Double) {
    operations += 1
    if ratio > worst { (worst, worstOperation, worstPath) = (ratio, operation.name, path) }
  }
}

/// An operation whose output is not what the reference makes of the same inputs.
public struct Divergence: Error, Sendable, CustomStringConvertible {
  /// The operation that differs, with its parameters.
  public let operation: Operation
  /// As they were on the device.
  public let inputs: [Operand]
  /// As the device computed it.
  public let output: Operand
  /// `LayerPath.current`; empty outside layers.
  public let path: String
  /// The name of the device that computed it.
  public let device: String
  /// What it was held to.
  public let reference: String
  /// Names and variants of the kernels that computed it, in their order.
  public let kernels: [String]
  /// The largest error relative to what is allowed.
  public let ratio: Double
  /// The worst element, in words.
  public let problem: String

  /// What differs and by how much, in one line.
  public var description: String {
    let specs = inputs.map(\.spec.description).joined(separator: ", ")
    let place = path.isEmpty ? "" : " in \(path)"
    return "\(operation.name)(\(specs)) -> \(output.spec)\(place) on \(device) differs from \(reference): "
      + "\(problem) (\(ratio) of the tolerance)"
  }
}
