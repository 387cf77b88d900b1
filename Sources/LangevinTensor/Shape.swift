/// The extent of a tensor along each axis, outermost first. Elements are contiguous in row-major order.
public struct Shape: Sendable, Hashable, ExpressibleByArrayLiteral, CustomStringConvertible {
  /// Not negative in tensors; `reshaped` takes one -1.
  public let dimensions: [Int]

  /// A shape of these extents.
  public init(_ dimensions: [Int]) { self.dimensions = dimensions }
  /// As in `[N, H, W, C]`.
  public init(arrayLiteral elements: Int...) { self.dimensions = elements }

  /// Number of elements; 1 for a scalar's empty shape.
  public var count: Int { dimensions.reduce(1, *) }
  /// As `count`, for extents that nobody has checked yet, such as a file's: nil where one is negative, where there would
  /// be more than 2^48 elements, and where a tensor without elements has more than 2^24 of them along its other axes,
  /// which no model has and loops would take hours for. Where it is not nil, `count`, `strides` and bytes cannot overflow.
  public var checkedCount: Int? {
    var others = 1
    for extent in dimensions where extent != 0 {
      let (product, overflow) = others.multipliedReportingOverflow(by: extent)
      guard extent > 0, !overflow, product <= 1 << 48 else { return nil }
      others = product
    }
    guard dimensions.contains(0) else { return others }
    return others <= 1 << 24 ? 0 : nil
  }
  /// Number of axes.
  public var rank: Int { dimensions.count }

  /// The extent of an axis; a negative axis counts from the end.
  public subscript(axis: Int) -> Int { dimensions[axis < 0 ? axis + dimensions.count : axis] }

  /// Distance in elements between neighbours along each axis.
  public var strides: [Int] {
    var result = [Int](repeating: 1, count: rank)
    for axis in stride(from: rank - 2, through: 0, by: -1) {
      result[axis] = result[axis + 1] * dimensions[axis + 1]
    }
    return result
  }

  /// NumPy's broadcasting rule: axes align at the end, and 1 stretches. Nil where it does not hold.
  public func broadcast(with other: Shape) -> Shape? {
    var result = [Int](repeating: 1, count: max(rank, other.rank))
    for axis in 1...max(result.count, 1) where axis <= result.count {
      let a = axis <= rank ? self[-axis] : 1
      let b = axis <= other.rank ? other[-axis] : 1
      guard a == b || a == 1 || b == 1 else { return nil }
      result[result.count - axis] = a == 1 ? b : a
    }
    return Shape(result)
  }

  /// The index of an element, outermost axis first.
  public func index(of element: Int) -> [Int] {
    var rest = element
    var result = dimensions
    for axis in result.indices.reversed() {
      result[axis] = rest % dimensions[axis]
      rest /= dimensions[axis]
    }
    return result
  }

  /// Strides of this shape's elements along the axes of a shape that it broadcasts to; 0 where it stretches.
  public func broadcastStrides(to shape: Shape) -> [Int] {
    let lead = shape.rank - rank
    let own = strides
    return (0..<shape.rank).map { axis in
      axis < lead || self[axis - lead] == 1 ? 0 : own[axis - lead]
    }
  }

  /// This shape with one axis replaced.
  public func replacing(axis: Int, with extent: Int) -> Shape {
    var result = dimensions
    result[axis < 0 ? axis + rank : axis] = extent
    return Shape(result)
  }

  /// `[2, 3]`.
  public var description: String { "[" + dimensions.map(String.init).joined(separator: ", ") + "]" }
}

/// The list of extents.
extension Shape: Codable {
  /// From the list of extents.
  public init(from decoder: any Decoder) throws {
    self.init(try decoder.singleValueContainer().decode([Int].self))
  }

  /// As the list of extents.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(dimensions)
  }
}

/// What shape inference knows of a tensor.
public struct TensorSpec: Sendable, Hashable, Codable, CustomStringConvertible {
  /// The extents of the axes.
  public let shape: Shape
  /// Storage of an element.
  public let dtype: DType

  /// A tensor of this shape and storage.
  public init(_ shape: Shape, _ dtype: DType = .float32) {
    self.shape = shape
    self.dtype = dtype
  }

  /// Bytes of all elements.
  public var byteCount: Int { shape.count * dtype.byteCount }
  /// `float32[2, 3]`.
  public var description: String { "\(dtype.rawValue)\(shape)" }
}
