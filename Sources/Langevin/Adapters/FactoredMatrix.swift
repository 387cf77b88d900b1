import LangevinCPU
import LangevinTensor

/// A matrix [rows, columns], or a convolution's weight [rows, columns, height, width], as a file has it:
/// whole or as factors.
enum FactoredMatrix: Sendable {
  case whole(String)
  /// left [rows, rank] times right [rank, columns, ...].
  case product(left: String, right: String)
  /// Tucker's: the core [i, j, height, width], whose first axis left [i, rows] makes rows of, or [rows, i]
  /// where `isUpright`, and whose second right [j, columns] makes columns of. arXiv:2309.14859, section 3.2.
  case tucker(core: String, left: String, right: String, isUpright: Bool)

  /// The tensors.
  var names: [String] {
    switch self {
    case .whole(let name): [name]
    case .product(let left, let right): [left, right]
    case .tucker(let core, let left, let right, _): [core, left, right]
    }
  }

  /// The extent that the factors share; nil for a whole matrix.
  func rank(in file: SafetensorsFile) -> Int? {
    switch self {
    case .whole: nil
    case .product(_, let right), .tucker(_, _, let right, _):
      file.shape(of: right).flatMap { $0.dimensions.first }
    }
  }

  /// Factors that do not fit each other, with their shapes.
  static func fault(_ names: [String], in file: SafetensorsFile) -> AdapterError {
    .factors(
      path: file.url.path, factors: names.map { ($0, file.shape(of: $0) ?? []) }.map(AdapterError.Factor.init)
    )
  }

  /// The shape of what the factors make. Throws `AdapterError.factors` where they do not fit each other.
  func extents(in file: SafetensorsFile) throws -> [Int] {
    func shape(_ name: String) -> [Int] { file.shape(of: name)?.dimensions ?? [] }
    /// Two axes, and maybe more of extent 1.
    func isMatrix(_ shape: [Int]) -> Bool { shape.count >= 2 && shape.dropFirst(2).allSatisfy { $0 == 1 } }
    let fault = Self.fault(names, in: file)
    switch self {
    case .whole(let name):
      guard shape(name).count >= 2 else { throw fault }
      return shape(name)
    case .product(let left, let right):
      let (left, right) = (shape(left), shape(right))
      guard isMatrix(left), right.count >= 2, left[1] == right[0] else { throw fault }
      return [left[0]] + right.dropFirst()
    case .tucker(let core, let left, let right, let isUpright):
      let (core, left, right) = (shape(core), shape(left), shape(right))
      guard core.count > 2, isMatrix(left), isMatrix(right), core[0] == left[isUpright ? 1 : 0],
        core[1] == right[0]
      else { throw fault }
      return [left[isUpright ? 0 : 1], right[1]] + core.dropFirst(2)
    }
  }

  /// float32 [rows, columns height width]. Throws what reading and the device throw.
  func value(in file: SafetensorsFile, on device: Device) throws -> Tensor {
    switch self {
    case .whole(let name): return try file.matrix(name, on: device)
    case .product(let left, let right):
      return try file.matrix(left, on: device).matmul(file.matrix(right, on: device))
    case .tucker(let core, let left, let right, let isUpright):
      let (left, right) = (try file.matrix(left, on: device), try file.matrix(right, on: device))
      let core = try file.matrix(core, on: device)
      return try Self.spread(left.matmul(core, transposeLeft: !isUpright), by: right)
    }
  }

  /// A core's rows [n, inner taps] times right [inner, columns], tap by tap: [n, columns taps].
  private static func spread(_ rows: Tensor, by right: Tensor) throws -> Tensor {
    let (inner, columns) = (right.shape[0], right.shape[1])
    let (count, taps) = (rows.shape[0], rows.shape[1] / inner)
    let turned = try rows.reshaped([count, inner, taps]).transposed([0, 2, 1]).reshaped([count * taps, inner])
    return try turned.matmul(right).reshaped([count, taps, columns]).transposed([0, 2, 1])
      .reshaped([count, columns * taps])
  }

  /// The rank of `lowRank`.
  func innerExtent(in file: SafetensorsFile) -> Int? {
    switch self {
    case .whole: nil
    case .product(_, let right): file.shape(of: right).flatMap { $0.dimensions.first }
    case .tucker(let core, _, _, _): file.shape(of: core).flatMap { $0.dimensions.first }
    }
  }

  /// `up` [rows, rank] and `down` [rank, columns height width], float32, whose product is the matrix; nil for one that
  /// is whole. Throws as `value` does.
  func lowRank(in file: SafetensorsFile, on device: Device) throws -> (up: Tensor, down: Tensor)? {
    switch self {
    case .whole: return nil
    case .product(let left, let right):
      return (try file.matrix(left, on: device), try file.matrix(right, on: device))
    case .tucker(let core, let left, let right, let isUpright):
      let left = try file.matrix(left, on: device)
      return (
        isUpright ? left : try left.transposed([1, 0]),
        try Self.spread(file.matrix(core, on: device), by: file.matrix(right, on: device))
      )
    }
  }
}

extension SafetensorsFile {
  /// A tensor in float32 as a matrix: its first axis, and all others.
  func matrix(_ name: String, on device: Device) throws -> Tensor {
    let tensor = try load(name, on: device).cast(to: .float32)
    let rows = tensor.shape[0]
    return try tensor.reshaped([rows, tensor.shape.count / rows])
  }

  /// A tensor of one element, of an integer or a floating-point type. Throws `CheckpointError.malformed`.
  func number(_ name: String) throws -> Float {
    guard shape(of: name)?.count == 1 else {
      throw CheckpointError.malformed(path: url.path, reason: "'\(name)' is more than one number")
    }
    if let integer = integers(name)?.first { return Float(integer) }
    return try load(name, on: Device(CPUBackend())).cast(to: .float32).floats()[0]
  }
}
