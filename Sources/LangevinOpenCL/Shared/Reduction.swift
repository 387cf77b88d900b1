import LangevinTensor

/// Reductions over any axes, in two launches.
extension KernelSet {
  func reduce(_ reduce: Reduce, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let strides = x.shape.strides
    func walk(_ axes: [Int]) -> Walk {
      let s = axes.map { strides[$0] }
      return Walk(axes.map { x.shape[$0] }, s, s)
    }
    var kept = x.shape.dimensions.indices.filter { !reduce.axes.contains($0) }
    let count = reduce.axes.reduce(1) { $0 * x.shape[$1] }
    let scale = reduce.kind == .mean ? 1 / Float(count) : 1
    // Vectors along the last axis, where it is kept and fills one.
    if let last = kept.last, last == x.shape.rank - 1, x.shape[last] >= work.columns.vector {
      kept.removeLast()
      let tile = work.columns
      let (columns, width) = (x.shape[last], tile.lanes * tile.vector)
      let parts = (count + tile.rows - 1) / tile.rows
      let partial = try queue.scratch(parts * y.shape.count * 4)
      try queue.launch(
        ReduceColumnsKernel(
          x: x, partial: partial, count: count, columns: columns, kept: walk(kept),
          reduced: walk(reduce.axes)), reduction(x.dtype, reduce.kind),
        global: [(columns + width - 1) / width, y.shape.count / columns, parts], local: work.local(rank: 3))
      return try combine(
        partial, y, count: y.shape.count, parts: parts, kind: reduce.kind, scale: scale, on: &queue)
    }
    if let width = rowVectors(kept, count, x.shape) {
      // A row as [count / width, width]: the columns first, then what is left of each row.
      let rows = count / width
      let parts = (rows + work.columns.rows - 1) / work.columns.rows
      let partial = try queue.scratch(parts * y.shape.count * width * 4)
      let program = reduction(x.dtype, reduce.kind)
      try queue.launch(
        ReduceColumnsKernel(
          x: x, partial: partial, count: rows, columns: width, kept: walk(kept),
          reduced: Walk([rows], [width], [width])), program,
        global: [1, y.shape.count, parts], local: work.local(rank: 3))
      return try queue.launch(
        ReducePartialsKernel(partial: partial, y: y, chunks: parts * width, scale: scale), program,
        global: [y.shape.count], local: work.local(rank: 1))
    }
    let chunks = (count + work.reduceChunk - 1) / work.reduceChunk
    let partial = try queue.scratch(y.shape.count * chunks * 4)
    let program = reduction(x.dtype, reduce.kind)
    try queue.launch(
      ReduceKernel(x: x, partial: partial, count: count, kept: walk(kept), reduced: walk(reduce.axes)),
      program,
      global: [y.shape.count, chunks], local: work.local(rank: 2))
    try queue.launch(
      ReducePartialsKernel(partial: partial, y: y, chunks: chunks, scale: scale), program,
      global: [y.shape.count], local: work.local(rank: 1))
  }

  /// Columns of vectors that a reduction of whole rows is cut into, or nil: one work-item reads them, as suits a
  /// processor, and all parts of an output must lie together.
  private func rowVectors(_ kept: [Int], _ count: Int, _ shape: Shape) -> Int? {
    let width = work.columns.lanes * work.columns.vector
    guard work.isAlone, kept == Array(0..<kept.count), count > 0, count % width == 0 else { return nil }
    let isOnePart = count / width <= work.columns.rows
    return isOnePart || count == shape.count ? width : nil
  }

  /// Combines float32 parts in order, each of `count` elements, into those of y from `offset` on.
  func combine(
    _ partial: OpenCLStorage, _ y: TensorView, from offset: Int = 0, count: Int, parts: Int,
    kind: Reduce.Kind = .sum, scale: Float = 1, on queue: inout LaunchQueue
  ) throws {
    guard count > 0 else { return }
    try queue.launch(
      CombinePartsKernel(partial: partial, y: y.part(from: offset), count: count, parts: parts, scale: scale),
      reduction(y.dtype, kind), global: [(count + work.vector - 1) / work.vector], local: work.local(rank: 1))
  }

  private func reduction(_ dtype: DType, _ kind: Reduce.Kind) -> Program {
    .reduce(dtype, kind, chunk: work.reduceChunk, work.columns)
  }
}

/// How a sum is cut: it depends on the operands' shapes alone, as its bits do.
struct SumParts {
  /// Terms of each part but perhaps the last.
  let size: Int
  let count: Int

  /// Parts of about `size` terms and whole blocks of `block`, at most `limit` of them where that is one or more.
  init(_ terms: Int, size: Int, multipleOf block: Int, atMost limit: Int) {
    let wanted = max(1, min((terms + size - 1) / size, limit))
    let even = (terms + wanted - 1) / wanted
    self.size = max(block, (even + block - 1) / block * block)
    count = (terms + self.size - 1) / self.size
  }
}

extension TensorView {
  /// The elements from `offset` on.
  func part(from offset: Int) -> TensorView {
    TensorView(storage: storage, offset: self.offset + offset, spec: spec)
  }
}
