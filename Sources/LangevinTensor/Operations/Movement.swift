/// Most axes that backends walk over.
private let largestRank = 6

extension OperandSpecs {
  fileprivate func requireRank(_ shape: Shape) throws {
    try require(shape.rank <= largestRank, "at most \(largestRank) axes")
  }
}

/// The block that begins at `starts` and extends over `sizes`.
public struct Slice: Sendable, Hashable, Codable {
  /// The first index along each axis.
  public var starts: [Int]
  /// How many elements along each axis.
  public var sizes: [Int]

  /// One number an axis in each.
  public init(starts: [Int], sizes: [Int]) {
    self.starts = starts
    self.sizes = sizes
  }
}

/// One number an axis, before and after; none is negative.
public struct Pad: Sendable, Hashable, Codable {
  /// Elements before the first, along each axis.
  public var before: [Int]
  /// Elements after the last, along each axis.
  public var after: [Int]
  /// What the padding is filled with.
  public var value: Float

  /// One number an axis in each; by default zeros are added.
  public init(before: [Int], after: [Int], value: Float = 0) {
    self.before = before
    self.after = after
    self.value = value
  }
}

/// Output axis i is input axis `permutation[i]`.
struct Transpose: OperationDefinition {
  var permutation: [Int]

  var operationKind: Operation.Kind { .transpose }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(1)
    let x = inputs[0]
    try inputs.require(permutation.sorted() == Array(0..<x.rank), "\(permutation) does not permute the axes")
    try inputs.requireRank(x)
    return inputs.like(Shape(permutation.map { x[$0] }))
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 0, inputs, output) }
  var decomposition: Decomposition? { nil }

  var gradient: GradientRule {
    .linear { g, _ in
      var inverse = permutation
      for (axis, source) in permutation.enumerated() { inverse[source] = axis }
      return try g.transposed(inverse)
    }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }

  var locality: Locality {
    .moved(
      .index { index, _ in
        var source = index
        for axis in index.indices { source[permutation[axis]] = index[axis] }
        return source
      })
  }

  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .transpose(permutation) }
}

/// Stretches axes of extent 1; axes align at the end.
struct Broadcast: OperationDefinition {
  var shape: Shape

  var operationKind: Operation.Kind { .broadcast }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(1)
    try inputs.require(inputs[0].broadcast(with: shape) == shape, "does not broadcast to \(shape)")
    try inputs.requireRank(shape)
    return inputs.like(shape)
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 0, inputs, output) }
  var decomposition: Decomposition? { nil }

  var gradient: GradientRule { .linear { g, call in try g.unbroadcast(to: call.specs[0].shape) } }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }

  var locality: Locality {
    .moved(
      .init { inputs, output, _ in
        let strides = inputs[0].broadcastStrides(to: output)
        return { (0, zip(output.index(of: $0), strides).reduce(0) { $0 + $1.0 * $1.1 }) }
      })
  }

  func extents(of inputs: [TensorSpec]) -> Extents {
    .shared(payload: shape) { lowered in .broadcast(lowered(shape)) }
  }
  var representative: Operation { .broadcast(shape) }
}

extension Slice: OperationDefinition {
  public var operationKind: Operation.Kind { .slice }
  public var family: OperationFamily { .movement }

  public func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(1)
    let x = inputs[0]
    try inputs.require(
      starts.count == x.rank && sizes.count == x.rank, "starts and sizes need \(x.rank) numbers")
    try inputs.requireRank(x)
    for axis in 0..<x.rank {
      let (start, size) = (starts[axis], sizes[axis])
      try inputs.require(
        start >= 0 && size >= 0 && size <= x[axis] && start <= x[axis] - size,
        "axis \(axis) has no elements \(start)..<\(start &+ size)")
    }
    return inputs.like(Shape(sizes))
  }

  /// Of the input only what is looked at counts.
  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(bytesRead: Double(output.byteCount), bytesWritten: Double(output.byteCount))
  }

  public var decomposition: Decomposition? { nil }

  public var gradient: GradientRule {
    .linear { g, call in
      let x = call.specs[0].shape
      return try g.padded(before: starts, after: (0..<x.rank).map { x[$0] - starts[$0] - sizes[$0] })
    }
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  public var locality: Locality { .moved(.index { index, _ in zip(index, starts).map { $0 + $1 } }) }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.slice(self)) }
  public var representative: Operation { .slice(self) }
}

/// One after another along an axis.
struct Concatenate: OperationDefinition {
  var axis: Int

  var operationKind: Operation.Kind { .concatenate }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x\(index)") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.require(inputs.count > 0, "needs an input")
    let first = inputs[0]
    try inputs.require(axis >= 0 && axis < first.rank, "axis \(axis) does not exist")
    for input in inputs.inputs {
      try inputs.require(input.dtype == inputs.inputs[0].dtype, "its inputs differ in dtype")
      try inputs.require(
        input.shape.rank == first.rank
          && input.shape.replacing(axis: axis, with: 0) == first.replacing(axis: axis, with: 0),
        "shapes differ off axis \(axis)")
    }
    return inputs.like(first.replacing(axis: axis, with: inputs.inputs.reduce(0) { $0 + $1.shape[axis] }))
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 0, inputs, output) }
  var decomposition: Decomposition? { nil }

  var gradient: GradientRule {
    .rule(keeps: []) { call in
      var start = 0
      return try call.specs.enumerated().map { index, spec in
        let range = start..<start + spec.shape[axis]
        start = range.upperBound
        return try call.at(index) { try call.gradient.sliced(range, axis: axis) }
      }
    }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }

  var locality: Locality {
    .moved(
      .init { inputs, output, _ in
        var owners: [(input: Int, start: Int)] = []
        for (i, input) in inputs.enumerated() {
          owners += [(input: Int, start: Int)](repeating: (i, owners.count), count: input[axis])
        }
        return { element in
          var index = output.index(of: element)
          let (input, start) = owners[index[axis]]
          index[axis] -= start
          return (input, zip(index, inputs[input].strides).reduce(0) { $0 + $1.0 * $1.1 })
        }
      })
  }

  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .concatenate(axis: axis) }
}

extension Pad: OperationDefinition {
  public var operationKind: Operation.Kind { .pad }
  public var family: OperationFamily { .movement }

  public func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    let x = inputs[0]
    try inputs.require(
      before.count == x.rank && after.count == x.rank, "before and after need \(x.rank) numbers")
    try inputs.require((before + after).allSatisfy { $0 >= 0 }, "padding cannot be negative")
    try inputs.requireRank(x)
    return inputs.like(Shape((0..<x.rank).map { x[$0] + before[$0] + after[$0] }))
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: 0, inputs, output)
  }

  public var decomposition: Decomposition? { nil }

  public var gradient: GradientRule {
    .linear { g, call in try g.sliced(starts: before, sizes: call.specs[0].shape.dimensions) }
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }

  public var locality: Locality {
    .moved(
      .index(fill: Double(value)) { index, input in
        let source = zip(index, before).map { $0 - $1 }
        return source.indices.allSatisfy { (0..<input[$0]).contains(source[$0]) } ? source : nil
      })
  }

  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.pad(self)) }
  public var representative: Operation { .pad(self) }
}

/// [N, H, W, C] -> [N, fH, fW, C], each pixel repeated.
struct UpsampleNearest: OperationDefinition {
  var factor: Int

  var operationKind: Operation.Kind { .upsampleNearest }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    let x = inputs[0]
    try inputs.require(x.rank == 4, "x must be [N, H, W, C]")
    try inputs.require(factor > 0, "the factor must be positive")
    return inputs.like([x[0], x[1] * factor, x[2] * factor, x[3]])
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 0, inputs, output) }

  var decomposition: Decomposition? {
    { inputs in
      let x = inputs[0].shape
      return try inputs[0].reshaped([x[0], x[1], 1, x[2], 1, x[3]])
        .broadcast(to: [x[0], x[1], factor, x[2], factor, x[3]])
        .reshaped([x[0], x[1] * factor, x[2] * factor, x[3]])
    }
  }

  var gradient: GradientRule {
    .linear { g, call in
      let x = call.specs[0].shape
      return try g.reshaped([x[0], x[1], factor, x[2], factor, x[3]]).reduced(.sum, axes: [2, 4])
        .reshaped(x)
    }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  var locality: Locality {
    .moved(.index { index, _ in [index[0], index[1] / factor, index[2] / factor, index[3]] })
  }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .upsampleNearest(factor: factor) }
}

/// Rows of a table by int32 ids.
struct Embedding: OperationDefinition {
  var operationKind: Operation.Kind { .embedding }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition {
    index == 0 ? OperandDefinition("table") : OperandDefinition("ids", domain: .rows)
  }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(2)
    try inputs.require(
      inputs.inputs[0].dtype.isFloatingPoint && inputs.inputs[1].dtype == .int32,
      "needs a floating-point table and int32 ids")
    try inputs.require(inputs[0].rank == 2, "the table must be [V, C]")
    return inputs.like(Shape(inputs[1].dimensions + [inputs[0][1]]))
  }

  /// Of the table only the rows that are looked at count.
  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(
      bytesRead: Double(inputs[1].byteCount + output.byteCount), bytesWritten: Double(output.byteCount))
  }

  var decomposition: Decomposition? { nil }

  var gradient: GradientRule {
    .rule(keeps: [1]) { call in
      let rows = call.specs[0].shape[0]
      return [try Tensor.apply(.embeddingGradient(rows: rows), [call.input(1), call.gradient]), nil]
    }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }

  var locality: Locality {
    .moved(
      .init { inputs, _, read in
        let width = inputs[0][1]
        return { (0, Int(read(1, $0 / width)) * width + $0 % width) }
      })
  }

  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.embedding) }
  var representative: Operation { .embedding }
}
