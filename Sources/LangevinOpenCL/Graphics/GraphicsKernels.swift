import LangevinTensor

/// Kernels for graphics cards: tiles in local memory, neighbouring work-items on neighbouring elements, sums over
/// subgroups where they work.
struct GraphicsKernels: KernelSet {
  let device: DeviceDescription
  let work: WorkShape

  init(device: DeviceDescription) {
    self.device = device
    work = WorkShape(
      vector: 4, chunk: 4, group: min(256, device.maxWorkGroupSize), castChunk: 1, reduceChunk: 256,
      rowItems: Subgroups.items, packRows: 1, columns: VectorTile(vector: 4, lanes: 1, rows: 64),
      embedding: VectorTile(vector: 4, lanes: 1, rows: 1), gradientChunk: 32, gradientRows: 8,
      isAlone: false)
  }

  var family: KernelFamily { .gpu }

  var peak: PeakProbe {
    PeakProbe(
      variants: [(lanes: 1, chains: 8), (4, 4)], items: max(1, device.computeUnits) * 2048,
      firstCount: 1 << 10,
      lanes: 4, span: 16, group: 256, isBlocked: false, largestBuffer: 1 << 29)
  }

  /// Tries the subgroups: the kernel that tries them is no part of a listing or a recording.
  func prepare(_ queue: inout LaunchQueue) { _ = queue.subgroups() }

  func usesSubgroups(_ queue: inout LaunchQueue) -> Bool { queue.subgroups() == .usable }

  /// An element for each work-item.
  func move(_ movement: Movement, on queue: inout LaunchQueue) throws {
    guard !movement.extents.contains(0) else { return }
    let walk = Walk(movement.extents, movement.xStrides, movement.yStrides)
    let count = walk.extents.reduce(1, *)
    try queue.launch(
      MoveKernel(x: movement.x, y: movement.y, runs: count, run: 1, piece: 1, chunk: 1, walk: walk),
      .move(movement.y.dtype), global: [count, 1], local: [64, 1])
  }
}
