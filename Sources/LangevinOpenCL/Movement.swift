import COpenCL
import LangevinKernels
import LangevinTensor

/// Strides of `shape` along the axes of a broadcast result; 0 where an axis is stretched.
func stretchedStrides(_ shape: Shape, to result: Shape) -> [Int] {
  let missing = result.rank - shape.rank
  return (0..<result.rank).map { axis in
    axis < missing || (shape[axis - missing] == 1 && result[axis] != 1) ? 0 : shape.strides[axis - missing]
  }
}

/// A walk over up to six axes with two sets of strides: extents of 1 are dropped, axes that are contiguous in
/// both are merged, and the front is filled with ones.
struct Walk {
  var extents: [Int] = []
  var first: [Int] = []
  var second: [Int] = []

  init(_ extents: [Int], _ first: [Int], _ second: [Int]) {
    for axis in extents.indices where extents[axis] != 1 {
      if let last = self.extents.indices.last, self.first[last] == first[axis] * extents[axis],
        self.second[last] == second[axis] * extents[axis]
      {
        self.extents[last] *= extents[axis]
        self.first[last] = first[axis]
        self.second[last] = second[axis]
      } else {
        self.extents.append(extents[axis])
        self.first.append(first[axis])
        self.second.append(second[axis])
      }
    }
    pad()
  }

  private mutating func pad() {
    let missing = 6 - extents.count
    precondition(missing >= 0, "more than six axes")
    extents.insert(contentsOf: [Int](repeating: 1, count: missing), at: 0)
    first.insert(contentsOf: [Int](repeating: 0, count: missing), at: 0)
    second.insert(contentsOf: [Int](repeating: 0, count: missing), at: 0)
  }

  /// The axis that is contiguous in the first strides, where the last is so only in the second and both are long
  /// enough for tiles: a transpose.
  var turnedAxis: Int? {
    guard first[5] != 1, second[5] == 1, extents[5] >= 4 else { return nil }
    return (0..<5).first { first[$0] == 1 && extents[$0] >= 4 }
  }

  /// Takes the last axis out where it is contiguous on both sides, and returns its extent.
  mutating func takeRun() -> Int {
    guard first[5] == 1, second[5] == 1 else { return 1 }
    let run = extents.removeLast()
    first.removeLast()
    second.removeLast()
    pad()
    return run
  }
}

/// Operations that move elements without changing them, reductions and table look-ups.
extension OpenCLBackend {
  /// A whole contiguous tensor.
  func copy(_ x: TensorView, _ y: TensorView) throws {
    guard selection == nil else { return }
    try recorded("copy", y.dtype.rawValue, since: recorder == nil ? 0 : HostClock.now) { event in
      try check(
        clEnqueueCopyBuffer(
          context.queue, memory(of: x.storage), memory(of: y.storage), x.byteOffset, y.byteOffset,
          y.spec.byteCount, 0, nil, event), "clEnqueueCopyBuffer")
    }
  }

  /// y[yStart + sum c_i yStrides_i] = x[xStart + sum c_i xStrides_i] for every c within `extents`.
  private func move(
    _ x: TensorView, _ y: TensorView, extents: [Int], xStart: Int = 0, xStrides: [Int], yStart: Int = 0,
    yStrides: [Int]
  ) throws {
    guard !extents.contains(0) else { return }
    var walk = Walk(extents, xStrides, yStrides)
    let run = family == .cpu ? walk.takeRun() : 1
    let runs = walk.extents.reduce(1, *)
    if family == .cpu, run == 1, let contiguous = walk.turnedAxis {
      return try moveTiles(x, y, walk, contiguous, xStart: xStart, yStart: yStart)
    }
    let from = TensorView(storage: x.storage, offset: x.offset + xStart, spec: x.spec)
    let to = TensorView(storage: y.storage, offset: y.offset + yStart, spec: y.spec)
    // A work-item's share: many short runs, or a piece of a long one.
    let share = 4096
    let chunk = family == .cpu ? max(1, min(runs, share / run)) : 1
    let piece = min(run, share)
    var arguments: [Argument] = [
      .operand(from), .operand(to), .ulong(runs), .ulong(run), .int(piece), .int(chunk),
    ]
    arguments.append(ints: Array(walk.extents.dropFirst()))
    arguments.append(ulongs: walk.first + walk.second)
    try launch(
      Launch(
        "move", .move, moveDefinitions(y.dtype),
        global: [(runs + chunk - 1) / chunk, (run + piece - 1) / piece],
        local: [family == .cpu ? 1 : 64, 1], arguments))
  }

  /// A walk whose last axis is contiguous in y and whose axis `row` is contiguous in x.
  private func moveTiles(
    _ x: TensorView, _ y: TensorView, _ walk: Walk, _ row: Int, xStart: Int, yStart: Int
  ) throws {
    let outer = (0..<5).filter { $0 != row }
    let (rows, columns) = (walk.extents[row], walk.extents[5])
    let span = 256
    var arguments: [Argument] = [
      .operand(TensorView(storage: x.storage, offset: x.offset + xStart, spec: x.spec)),
      .operand(TensorView(storage: y.storage, offset: y.offset + yStart, spec: y.spec)),
      .int(rows), .int(columns), .int(span), .ulong(walk.first[5]), .ulong(walk.second[row]),
    ]
    arguments.append(ints: outer.dropFirst().map { walk.extents[$0] })
    arguments.append(ulongs: outer.map { walk.first[$0] } + outer.map { walk.second[$0] })
    try launch(
      Launch(
        "move_tiles", .move, moveDefinitions(y.dtype),
        global: [
          (columns + span - 1) / span, (rows + 15) / 16, outer.reduce(1) { $0 * walk.extents[$1] },
        ],
        local: [1, 1, 1], arguments))
  }

  private func moveDefinitions(_ dtype: DType) -> KeyValuePairs<String, any CustomStringConvertible> {
    let notANumber =
      switch dtype {
      case .float32, .int32: "0x7fc00000u"
      case .float16: "0x7e00u"
      case .bfloat16: "0x7fc0u"
      }
    return ["E": dtype.byteCount == 4 ? "uint" : "ushort", "NAN_BITS": notANumber]
  }

  func transpose(_ permutation: [Int], _ x: TensorView, _ y: TensorView) throws {
    let strides = x.shape.strides
    try move(
      x, y, extents: y.shape.dimensions, xStrides: permutation.map { strides[$0] }, yStrides: y.shape.strides)
  }

  func broadcast(_ x: TensorView, to shape: Shape, _ y: TensorView) throws {
    try move(
      x, y, extents: shape.dimensions, xStrides: stretchedStrides(x.shape, to: shape), yStrides: shape.strides
    )
  }

  func slice(_ slice: Slice, _ x: TensorView, _ y: TensorView) throws {
    let strides = x.shape.strides
    let start = zip(slice.starts, strides).reduce(0) { $0 + $1.0 * $1.1 }
    try move(x, y, extents: slice.sizes, xStart: start, xStrides: strides, yStrides: y.shape.strides)
  }

  func concatenate(_ axis: Int, _ x: [TensorView], _ y: TensorView) throws {
    let strides = y.shape.strides
    var start = 0
    for input in x {
      try move(
        input, y, extents: input.shape.dimensions, xStrides: input.shape.strides,
        yStart: start * strides[axis],
        yStrides: strides)
      start += input.shape[axis]
    }
  }

  func pad(_ pad: Pad, _ x: TensorView, _ y: TensorView) throws {
    try fill(pad.value, y.spec, y)
    let strides = y.shape.strides
    let start = zip(pad.before, strides).reduce(0) { $0 + $1.0 * $1.1 }
    try move(
      x, y, extents: x.shape.dimensions, xStrides: x.shape.strides, yStart: start, yStrides: strides)
  }

  func upsample(_ factor: Int, _ x: TensorView, _ y: TensorView) throws {
    let (n, h, w, c) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    let s = x.shape.strides
    let extents = [n, h, factor, w, factor, c]
    try move(
      x, y, extents: extents, xStrides: [s[0], s[1], 0, s[2], 0, s[3]], yStrides: Shape(extents).strides)
  }

  func embedding(table: TensorView, ids: TensorView, _ y: TensorView) throws {
    try launch(
      Launch(
        "embedding", .move, moveDefinitions(table.dtype), global: [ids.shape.count], local: [1],
        [
          .operand(table), .operand(ids), .operand(y), .int(table.shape[0]), .int(table.shape[1]),
        ]))
  }

  func reduce(_ reduce: Reduce, _ x: TensorView, _ y: TensorView) throws {
    let strides = x.shape.strides
    let kept = x.shape.dimensions.indices.filter { !reduce.axes.contains($0) }
    func walk(_ axes: [Int]) -> Walk {
      let s = axes.map { strides[$0] }
      return Walk(axes.map { x.shape[$0] }, s, s)
    }
    let (outer, inner) = (walk(kept), walk(reduce.axes))
    let count = reduce.axes.reduce(1) { $0 * x.shape[$1] }
    let chunk = family == .cpu ? 4096 : 256
    let chunks = (count + chunk - 1) / chunk
    let partial = try scratch(y.shape.count * chunks * 4)
    let kind =
      switch reduce.kind {
      case .sum, .mean: 0
      case .minimum: 1
      case .maximum: 2
      }
    let definitions: KeyValuePairs<String, any CustomStringConvertible> = [
      "T": x.dtype.kernelName, "KIND": kind, "CHUNK": chunk,
    ]
    var arguments: [Argument] = [.operand(x), .scratch(partial), .ulong(count)]
    arguments.append(ints: Array(outer.extents.dropFirst()))
    arguments.append(ulongs: outer.first)
    arguments.append(ints: Array(inner.extents.dropFirst()))
    arguments.append(ulongs: inner.first)
    try launch(
      Launch(
        "reduce", .reduce, definitions, global: [y.shape.count, chunks],
        local: family == .cpu ? [1, 1] : nil,
        arguments))
    try launch(
      Launch(
        "reduce_partials", .reduce, definitions, global: [y.shape.count], local: family == .cpu ? [1] : nil,
        [
          .scratch(partial), .operand(y), .int(chunks), .float(reduce.kind == .mean ? 1 / Float(count) : 1),
        ]))
  }
}
