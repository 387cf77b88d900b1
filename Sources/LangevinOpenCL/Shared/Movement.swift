import LangevinTensor

/// y[sum c_i yStrides_i] = x[sum c_i xStrides_i] for every c within `extents`.
struct Movement {
  var x, y: TensorView
  var extents, xStrides, yStrides: [Int]

  /// Both views are moved on to their starts.
  init(
    _ x: TensorView, _ y: TensorView, extents: [Int], xStart: Int = 0, xStrides: [Int], yStart: Int = 0,
    yStrides: [Int]
  ) {
    self.x = TensorView(storage: x.storage, offset: x.offset + xStart, spec: x.spec)
    self.y = TensorView(storage: y.storage, offset: y.offset + yStart, spec: y.spec)
    (self.extents, self.xStrides, self.yStrides) = (extents, xStrides, yStrides)
  }
}

/// Operations that move elements without changing them, and table look-ups.
extension KernelSet {
  func transpose(
    _ permutation: [Int], _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let strides = x.shape.strides
    let movement = Movement(
      x, y, extents: y.shape.dimensions, xStrides: permutation.map { strides[$0] }, yStrides: y.shape.strides)
    try move(movement, on: &queue)
  }

  func broadcast(_ x: TensorView, to shape: Shape, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let strides = x.shape.broadcastStrides(to: shape)
    let movement = Movement(x, y, extents: shape.dimensions, xStrides: strides, yStrides: shape.strides)
    try move(movement, on: &queue)
  }

  func slice(_ slice: Slice, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let strides = x.shape.strides
    let start = zip(slice.starts, strides).reduce(0) { $0 + $1.0 * $1.1 }
    let movement = Movement(
      x, y, extents: slice.sizes, xStart: start, xStrides: strides, yStrides: y.shape.strides)
    try move(movement, on: &queue)
  }

  func concatenate(_ axis: Int, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let strides = y.shape.strides
    var start = 0
    for input in x {
      let movement = Movement(
        input, y, extents: input.shape.dimensions, xStrides: input.shape.strides,
        yStart: start * strides[axis], yStrides: strides)
      try move(movement, on: &queue)
      start += input.shape[axis]
    }
  }

  func pad(_ pad: Pad, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    try fill(pad.value, y.spec, y, on: &queue)
    let strides = y.shape.strides
    let start = zip(pad.before, strides).reduce(0) { $0 + $1.0 * $1.1 }
    let movement = Movement(
      x, y, extents: x.shape.dimensions, xStrides: x.shape.strides, yStart: start, yStrides: strides)
    try move(movement, on: &queue)
  }

  func upsample(_ factor: Int, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let (n, h, w, c) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    let s = x.shape.strides
    let extents = [n, h, factor, w, factor, c]
    let movement = Movement(
      x, y, extents: extents, xStrides: [s[0], s[1], 0, s[2], 0, s[3]], yStrides: Shape(extents).strides)
    try move(movement, on: &queue)
  }

  func embedding(
    table: TensorView, ids: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let kernel = EmbeddingKernel(
      table: table, ids: ids, y: y, rows: table.shape[0], width: table.shape[1])
    try queue.launch(kernel, .move(table.dtype), global: [ids.shape.count], local: [1])
  }
}
