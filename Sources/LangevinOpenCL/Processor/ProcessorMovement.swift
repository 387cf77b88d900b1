import LangevinTensor

extension ProcessorKernels {
  /// Moves whole runs where the last axis is contiguous on both sides, and tiles where it is a transpose.
  func move(_ movement: Movement, on queue: inout LaunchQueue) throws {
    guard !movement.extents.contains(0) else { return }
    let (x, y) = (movement.x, movement.y)
    var walk = Walk(movement.extents, movement.xStrides, movement.yStrides)
    let run = walk.takeRun()
    if run == 1, let contiguous = walk.turnedAxis {
      return try moveTiles(x, y, walk, contiguous, on: &queue)
    }
    let runs = walk.extents.reduce(1, *)
    // A work-item's share: many short runs, or a piece of a long one.
    let share = 4096
    let chunk = max(1, min(runs, share / run))
    let piece = min(run, share)
    try queue.launch(
      MoveKernel(x: x, y: y, runs: runs, run: run, piece: piece, chunk: chunk, walk: walk), .move(y.dtype),
      global: [(runs + chunk - 1) / chunk, (run + piece - 1) / piece], local: [1, 1])
  }

  /// A walk whose last axis is contiguous in y and whose axis `row` is contiguous in x.
  private func moveTiles(
    _ x: TensorView, _ y: TensorView, _ walk: Walk, _ row: Int, on queue: inout LaunchQueue
  ) throws {
    let outer = (0..<5).filter { $0 != row }
    let (rows, columns) = (walk.extents[row], walk.extents[5])
    let span = 256
    let extents = outer.map { walk.extents[$0] }
    try queue.launch(
      MoveTilesKernel(
        x: x, y: y, rows: rows, columns: columns, span: span, columnStride: walk.first[5],
        rowStride: walk.second[row], extents: extents, xStrides: outer.map { walk.first[$0] },
        yStrides: outer.map { walk.second[$0] }), .move(y.dtype),
      global: [(columns + span - 1) / span, (rows + 15) / 16, extents.reduce(1, *)], local: [1, 1, 1])
  }
}
