import LangevinTensor

/// Reductions over any axes, in two launches.
extension KernelSet {
  func reduce(_ reduce: Reduce, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let strides = x.shape.strides
    let kept = x.shape.dimensions.indices.filter { !reduce.axes.contains($0) }
    func walk(_ axes: [Int]) -> Walk {
      let s = axes.map { strides[$0] }
      return Walk(axes.map { x.shape[$0] }, s, s)
    }
    let count = reduce.axes.reduce(1) { $0 * x.shape[$1] }
    let chunks = (count + work.reduceChunk - 1) / work.reduceChunk
    let partial = try queue.scratch(y.shape.count * chunks * 4)
    let program = Program.reduce(x.dtype, reduce.kind, chunk: work.reduceChunk)
    try queue.launch(
      ReduceKernel(x: x, partial: partial, count: count, kept: walk(kept), reduced: walk(reduce.axes)),
      program,
      global: [y.shape.count, chunks], local: work.local(rank: 2))
    let scale = reduce.kind == .mean ? 1 / Float(count) : 1
    try queue.launch(
      ReducePartialsKernel(partial: partial, y: y, chunks: chunks, scale: scale), program,
      global: [y.shape.count], local: work.local(rank: 1))
  }
}
