import LangevinTensor

/// Something that a device did which no rounding explains.
public enum Fault: Sendable, Hashable, Codable, CustomStringConvertible {
  /// An error beyond the tolerance, relative to it.
  case error(ratio: CodableNumber<Double>)
  /// A write before or behind a buffer; `distance` in elements from its nearest end.
  case guardOverwritten(buffer: String, distance: Int)
  /// A write into an input.
  case inputChanged(buffer: String, element: Int)
  /// An element of the output that still holds what was there before.
  case notWritten(element: Int)
  /// The same operation on the same buffers gave other bits.
  case notRepeatable(element: Int, elements: Int)
  /// The device's own error.
  case failed(String)

  /// What happened, in a few words.
  public var description: String {
    switch self {
    case .error(let ratio): "error \(number(ratio.wrappedValue)) of the tolerance"
    case .guardOverwritten(let buffer, let distance): "wrote \(distance) elements past the \(buffer)"
    case .inputChanged(let buffer, let element): "changed element \(element) of the \(buffer)"
    case .notWritten(let element): "left element \(element) unwritten"
    case .notRepeatable(let element, let elements):
      "another run on the same buffers gave \(elements) other elements, the first of them \(element)"
    case .failed(let reason): reason
    }
  }
}

/// Three significant digits.
func number(_ value: Double) -> String {
  guard value.isFinite, value != 0 else { return "\(value)" }
  var scale = 1.0
  while abs(value) * scale < 100 { scale *= 10 }
  while abs(value) * scale >= 1000 { scale /= 10 }
  let rounded = (value * scale).rounded() / scale
  return rounded == rounded.rounded() && abs(rounded) < 1e15 ? "\(Int(rounded))" : "\(rounded)"
}

/// A view in the middle of a larger storage, with a pattern around it that shows stray writes. Read as a number
/// in any floating-point dtype the pattern is NaN, so that stray reads show too.
struct GuardedBuffer {
  private static let pattern: [UInt8] = [0xA5, 0xFF]
  let name: String
  let view: TensorView
  /// Whether the backend packed it: then nothing is known of what is around it.
  private let isPacked: Bool
  private let backend: any Backend
  private let before: Int
  private let after: Int

  /// - Parameters:
  ///   - before: elements ahead of the view, its offset.
  ///   - after: elements behind it.
  init(_ name: String, _ spec: TensorSpec, before: Int, after: Int, on backend: any Backend) throws {
    self.name = name
    self.backend = backend
    isPacked = false
    (self.before, self.after) = (before * spec.dtype.byteCount, after * spec.dtype.byteCount)
    let storage = try backend.allocate(byteCount: self.before + spec.byteCount + self.after)
    view = TensorView(storage: storage, offset: before, spec: spec)
    try put(GuardedBuffer.filler(self.before), at: 0)
    try put(GuardedBuffer.filler(self.after), at: self.before + spec.byteCount)
  }

  /// A weight in the backend's form, from its row-major bytes.
  init(packed name: String, _ operand: Operand, on backend: any Backend) throws {
    let device = Device(backend)
    let matrix = try operand.bytes.withUnsafeBytes { try Tensor(bytes: $0, operand.spec, on: device) }
    let packing = Operation.matmul(MatMul(right: .packed))
    view = try packing.packing([matrix, matrix])[1].view
    (self.name, self.backend, isPacked, before, after) = (name, backend, true, 0, 0)
  }

  private static func filler(_ count: Int) -> [UInt8] { (0..<count).map { pattern[$0 % 2] } }

  private func put(_ bytes: [UInt8], at offset: Int) throws {
    try bytes.withUnsafeBytes { try backend.upload($0, to: view.storage, byteOffset: offset) }
  }

  private func get(_ count: Int, at offset: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    guard count > 0 else { return bytes }
    try bytes.withUnsafeMutableBytes {
      try backend.download(view.storage, byteOffset: offset, into: $0)
    }
    return bytes
  }

  /// Writes the operand's bytes between the guard regions.
  func write(_ bytes: [UInt8]) throws { try put(bytes, at: before) }

  /// Fills the view with a pattern of two bytes.
  func write(repeating pattern: [UInt8]) throws {
    let block = (0..<min(1 << 20, view.spec.byteCount)).map { pattern[$0 % 2] }
    for start in stride(from: 0, to: view.spec.byteCount, by: 1 << 20) {
      let count = min(block.count, view.spec.byteCount - start)
      try put(count == block.count ? block : Array(block[..<count]), at: before + start)
    }
  }

  /// What the view holds.
  func read() throws -> [UInt8] {
    guard isPacked else { return try get(view.spec.byteCount, at: before) }
    let rowMajor = try GuardedBuffer(name, view.spec, before: 0, after: 0, on: backend)
    if view.spec.shape.count > 0 { try backend.unpack(view, into: rowMajor.view) }
    return try rowMajor.read()
  }

  /// The stray write that is nearest to the view, if there is one.
  func strayWrite() throws -> Fault? {
    let size = view.spec.dtype.byteCount
    let head = try get(before, at: 0)
    if let last = head.indices.last(where: { head[$0] != GuardedBuffer.pattern[$0 % 2] }) {
      return .guardOverwritten(buffer: "start of the \(name)", distance: (before - last + size - 1) / size)
    }
    let tail = try get(after, at: before + view.spec.byteCount)
    if let first = tail.indices.first(where: { tail[$0] != GuardedBuffer.pattern[$0 % 2] }) {
      return .guardOverwritten(buffer: "end of the \(name)", distance: first / size + 1)
    }
    return nil
  }
}

/// Runs an operation on a backend as nobody would but to find its faults.
struct GuardedRun {
  /// The first run's; nil where it failed.
  private(set) var output: Operand?
  private(set) var faults: [Fault] = []
  /// Of one run, the fastest, with what it takes to start it.
  private(set) var seconds = 0.0

  /// Each run begins with an output that is filled with another number.
  private static let poisons: [[UInt8]] = [[0xC3, 0xFF], [0x5A, 0x7B], [0x69, 0xFF]]

  /// What the buffers take together, with what is around them.
  static func byteCount(_ inputs: [TensorSpec], output: TensorSpec, sliced: Bool) -> Int {
    let around = 256 + (sliced ? 5 : 0)
    return output.byteCount + (around + reach(output)) * output.dtype.byteCount
      + inputs.reduce(0) { $0 + $1.byteCount + (around + 256) * $1.dtype.byteCount }
  }

  /// Past the end of a line a kernel's tile may reach many lines further.
  private static func reach(_ output: TensorSpec) -> Int {
    min(1 << 18, max(256, 64 * (output.shape.rank > 0 ? output.shape[-1] : 1)))
  }

  /// Throws `TensorError.outOfMemory` and what allocation and transfers throw; what `execute` throws is a fault.
  init(
    _ operation: Operation, _ inputs: [Operand], output spec: TensorSpec, sliced: Bool, repeats: Int,
    on backend: any Backend
  ) throws {
    guard spec.shape.count > 0 else {
      // `Device` does not hand these to a backend.
      output = Operand(spec, bytes: [])
      return
    }
    let result = try GuardedBuffer(
      "output", spec, before: 256 + (sliced ? 5 : 0), after: GuardedRun.reach(spec), on: backend)
    let operands = try inputs.enumerated().map { index, operand in
      if index == operation.packedInput {
        return try GuardedBuffer(packed: "input \(index)", operand, on: backend)
      }
      let buffer = try GuardedBuffer(
        "input \(index)", operand.spec, before: 256 + (sliced ? 3 : 0), after: 256, on: backend)
      try buffer.write(operand.bytes)
      return buffer
    }
    var runs: [[UInt8]] = []
    for run in 0..<repeats {
      let poison = GuardedRun.poisons[run % GuardedRun.poisons.count]
      try result.write(repeating: poison)
      try backend.synchronize()
      let start = ContinuousClock.now
      try backend.execute(operation, inputs: operands.map(\.view), output: result.view)
      try backend.synchronize()
      let time = (ContinuousClock.now - start) / .seconds(1)
      seconds = run == 0 ? time : min(seconds, time)
      let bytes = try result.read()
      // Only the first run and its differences from the others are kept.
      if run == 0 {
        runs.append(bytes)
      } else if let fault = difference(runs[0], bytes, spec, poison) {
        faults.append(fault)
        break
      }
    }
    output = Operand(spec, bytes: runs[0])
    for buffer in [result] + operands {
      if let fault = try buffer.strayWrite() { faults.append(fault) }
    }
    for (operand, buffer) in zip(inputs, operands) {
      let now = try buffer.read()
      guard now != operand.bytes,
        let place = zip(now, operand.bytes).enumerated().first(where: { $1.0 != $1.1 })
      else { continue }
      faults.append(
        .inputChanged(buffer: buffer.name, element: place.offset / operand.spec.dtype.byteCount))
    }
  }

  private func difference(_ first: [UInt8], _ second: [UInt8], _ spec: TensorSpec, _ poison: [UInt8])
    -> Fault?
  {
    guard first != second else { return nil }
    let size = spec.dtype.byteCount
    let different = (0..<spec.shape.count).filter { element in
      (element * size..<(element + 1) * size).contains { first[$0] != second[$0] }
    }
    guard let element = different.first else { return nil }
    let isPoison = (0..<size).allSatisfy {
      second[element * size + $0] == poison[$0 % 2]
        && first[element * size + $0] == GuardedRun.poisons[0][$0 % 2]
    }
    return isPoison
      ? .notWritten(element: element) : .notRepeatable(element: element, elements: different.count)
  }
}
