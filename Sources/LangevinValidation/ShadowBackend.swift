import LangevinTensor
import Synchronization

/// Computes on a device, and holds every operation's output to a reference that computes from the same inputs.
///
/// Errors do not add up that way: the first operation that leaves its tolerance is the one at fault, and not one
/// further down that inherited wrong numbers. Where the two disagree float64 says who is right: it throws
/// `Divergence` where the device is wrong, and notes a `ReferenceFault` and goes on where the reference is.
public final class ShadowBackend: ForwardingBackend {
  /// The device that is held to the reference.
  public let base: any Backend
  private let reference: Device
  private let asksAlways: Bool
  private let notice: @Sendable (ReferenceFault) -> Void
  private let record = Mutex(ShadowRecord())

  /// A device and what it is held to. Throws what `startRecording` throws: kernels are named in a divergence.
  ///
  /// - Parameters:
  ///   - asksAlways: holds the device to float64 also where it agrees with the reference, at most in a sample.
  ///   - notice: is told of each operation and layer in which the reference is wrong, once.
  public init(
    _ backend: any Backend, reference: any Backend, asksAlways: Bool = false,
    notice: @escaping @Sendable (ReferenceFault) -> Void = { _ in }
  ) throws {
    base = backend
    self.reference = Device(reference)
    (self.asksAlways, self.notice) = (asksAlways, notice)
    try backend.startRecording()
  }

  /// What was compared so far.
  public var compared: ShadowRecord { record.withLock { $0 } }

  /// Throws `TensorError.deviceFailure`: each comparison takes the device's records.
  public func startRecording() throws {
    throw TensorError.deviceFailure(
      device: name, operation: "recording", reason: "a backend that is compared has no records left")
  }

  /// Runs on the device and on the reference, and compares. Throws `Divergence`, and what either throws.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try base.execute(operation, inputs: inputs, output: output)
    let kernels = try base.takeRecords()
    let operands = try inputs.enumerated().map { index, view in
      try read(index == operation.packedInput ? unpacked(view) : view)
    }
    let got = try read(output)
    // Kernels that unpacked.
    _ = (try base.takeRecords(), try base.takeTransfers())
    let finding = try compare(operation.onRowMajor, operands, got)
    record.withLock { $0.add(operation, path: LayerPath.current, ratio: finding.ratio) }
    if let error = finding.referenceError, error > 1 {
      let fault = ReferenceFault(
        operation: operation.name, path: LayerPath.current, reference: reference.name, error: error,
        device: base.name, deviceError: finding.ratio)
      if record.withLock({ $0.add(fault) }) { notice(fault) }
    }
    guard let problem = finding.problem else { return }
    throw Divergence(
      operation: operation, inputs: operands, output: got, path: LayerPath.current, device: base.name,
      reference: reference.name, kernels: kernels.map { "\($0.kernel) \($0.variant)" }, ratio: finding.ratio,
      referenceRatio: finding.referenceError, problem: problem)
  }

  private func unpacked(_ view: TensorView) throws -> TensorView {
    let storage = try base.allocate(byteCount: view.spec.byteCount)
    let rowMajor = TensorView(storage: storage, offset: 0, spec: view.spec)
    try base.unpack(view, into: rowMajor)
    return rowMajor
  }

  private func read(_ view: TensorView) throws -> Operand {
    let bytes = try [UInt8](unsafeUninitializedCapacity: view.spec.byteCount) { buffer, count in
      if !buffer.isEmpty {
        try base.download(
          view.storage, byteOffset: view.byteOffset, into: UnsafeMutableRawBufferPointer(buffer))
      }
      count = view.spec.byteCount
    }
    return Operand(view.spec, bytes: bytes)
  }

  /// What a comparison found.
  private struct Finding {
    /// The device's largest error relative to what is allowed.
    var ratio: Double
    /// The reference's, where float64 was asked.
    var referenceError: Double?
    /// What the device is to blame for.
    var problem: String?
  }

  private func compare(_ operation: Operation, _ inputs: [Operand], _ got: Operand) throws -> Finding {
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
    var worst = 0.0
    var differing: [(place: Int, ratio: Double)] = []
    for (i, (value, target)) in zip(values, expected.values).enumerated() {
      let error = dtype.error(value, target)
      guard error > 0 else { continue }
      var ratio = error / dtype.allowance(bound?[i], at: target)
      if ratio.isNaN { ratio = .infinity }
      worst = max(worst, ratio)
      if ratio > 1 { differing.append((i, ratio)) }
    }
    if worst > 1 || asksAlways {
      let places = differing.sorted { $0.ratio > $1.ratio }.prefix(64).map(\.place)
      let exact = try ExactValues(operation, inputs, seed: 0, including: places)
      let (device, other) = (exact.compare(got), exact.compare(Operand(expected)))
      let (ratio, otherRatio) = (device.relative.maximum, other.relative.maximum)
      guard ratio <= 1 else {
        let problem = "element \(device.worst) is \(device.value), float64 says \(device.expected)"
        return Finding(ratio: ratio, referenceError: otherRatio, problem: problem)
      }
      if worst > 1 || otherRatio > 1 { return Finding(ratio: ratio, referenceError: otherRatio) }
    }
    // Both agree, and yet a picture cannot come of it.
    if let i = values.firstIndex(where: { !$0.isFinite }), !inputs.isEmpty,
      wide.allSatisfy({ $0.values.allSatisfy(\.isFinite) })
    {
      let place = got.spec.shape.index(of: i)
      return Finding(
        ratio: worst,
        problem: "element \(place) is \(values[i]), expected \(expected.values[i]): not finite in "
          + "\(dtype.rawValue) from finite inputs, on the reference too")
    }
    return Finding(ratio: worst)
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
  /// Where the reference was wrong, each operation and layer once.
  public private(set) var referenceFaults: [ReferenceFault] = []

  /// Whether it is the first in its operation and layer.
  mutating func add(_ fault: ReferenceFault) -> Bool {
    let isNew = !referenceFaults.contains { ($0.operation, $0.path) == (fault.operation, fault.path) }
    if isNew { referenceFaults.append(fault) }
    return isNew
  }

  mutating func add(_ operation: Operation, path: String, ratio: Double) {
    operations += 1
    if ratio > worst { (worst, worstOperation, worstPath) = (ratio, operation.name, path) }
  }
}

/// An operation that the reference computes wrongly, by float64, so that no device can be held to it there.
public struct ReferenceFault: Sendable, Hashable, CustomStringConvertible {
  /// `Operation.name`.
  public let operation: String
  /// `LayerPath.current`; empty outside layers.
  public let path: String
  /// Which is wrong.
  public let reference: String
  /// The reference's largest error relative to what is allowed.
  public let error: Double
  /// Which was held to it.
  public let device: String
  /// The device's largest error relative to what is allowed.
  public let deviceError: Double

  /// One line.
  public var description: String {
    let place = path.isEmpty ? "" : " of \(path)"
    return "the reference \(reference) is off in \(operation)\(place), by float64: \(number(error)) of the "
      + "tolerance, \(device) \(number(deviceError))"
  }
}

/// An operation that a device computes wrongly.
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
  /// The device's largest error relative to what is allowed, by float64.
  public let ratio: Double
  /// The reference's; nil where both agree on something that is not finite.
  public let referenceRatio: Double?
  /// The worst element, in words.
  public let problem: String

  /// What differs and by how much, in one line.
  public var description: String {
    let specs = inputs.map(\.spec.description).joined(separator: ", ")
    let place = path.isEmpty ? "" : " in \(path)"
    return "\(operation.name)(\(specs)) -> \(output.spec)\(place) on \(device): \(errors): \(problem)"
  }

  /// The device's error and the reference's.
  public var errors: String {
    let other = referenceRatio.map { ", \(reference) \(number($0))" } ?? ""
    return "\(device) is off by \(number(ratio)) of the tolerance\(other)"
  }
}
