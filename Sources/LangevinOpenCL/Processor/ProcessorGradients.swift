import LangevinTensor

/// Tiles of `weight_gradient.cl`. They change no bits, so there is nothing to tune but the registers' width.
struct WeightGradientTile: Sendable, Hashable {
  /// Rows of a tile in registers, and its columns in vectors of 16.
  let tileRows, tileVectors: Int
  /// Rows and columns of a work-item.
  let rows, columns: Int
}

/// Tiles of `attention_gradient.cl`, which change no bits either.
struct AttentionGradientTile: Sendable, Hashable {
  /// Rows of a tile in registers, and its columns in vectors of 16.
  let tileRows, tileVectors: Int
  /// Queries, or keys, of a work-item.
  let queries, keys: Int
}

/// Gradients of weights by `weight_gradient.cl`, and of attention by `attention_gradient.cl`.
extension ProcessorKernels {
  /// Of 512 bits; a device that does not say has them.
  private var hasWideRegisters: Bool { (device.vectorWidth ?? Int.max) > 8 }

  func weightGradient(
    _ geometry: ConvolutionGeometry, _ x: TensorView, _ g: TensorView, _ y: TensorView,
    on queue: inout LaunchQueue
  ) throws {
    let (rows, columns) = (y.shape[0], y.shape[1])
    let tile =
      hasWideRegisters
      ? WeightGradientTile(tileRows: 8, tileVectors: 2, rows: 128, columns: 128)
      : WeightGradientTile(tileRows: 6, tileVectors: 1, rows: 48, columns: 32)
    let pixels = g.shape.count / columns
    // The kernel sums blocks of 128 pixels; parts take at most 32 MiB, but for a single one.
    let parts = SumParts(pixels, size: 1024, multipleOf: 128, atMost: (32 << 20) / (y.shape.count * 4))
    try sum(parts, y, on: &queue) { target, inParts, queue in
      try queue.launch(
        WeightGradientKernel(
          x: x, g: g, y: target, pixels: pixels, partSize: parts.size, rows: rows, columns: columns,
          geometry: geometry), .weightGradient(x.dtype, inParts: inParts, tile),
        global: [
          (rows + tile.rows - 1) / tile.rows, (columns + tile.columns - 1) / tile.columns, parts.count,
        ], local: [1, 1, 1])
    }
  }

  func supportsGradient(of attention: Attention, size: Int) -> Bool { true }

  func attentionGradient(
    _ attention: Attention, _ x: AttentionGradientViews, on queue: inout LaunchQueue
  ) throws {
    let (queries, keys, heads) = (x.queries, x.keys, attention.heads)
    let tile =
      hasWideRegisters
      ? AttentionGradientTile(tileRows: 8, tileVectors: 2, queries: 32, keys: 64)
      : AttentionGradientTile(tileRows: 6, tileVectors: 1, queries: 36, keys: 96)
    let (packedKeys, packedValues) = (
      try packPanels(x.k, heads: heads, on: &queue), try packPanels(x.v, heads: heads, on: &queue)
    )
    let paddedKeys = (keys + 31) / 32 * 32
    let statistics = try queue.scratch(x.images * heads * 3 * queries * 4)
    let mask = AttentionMask(attention, mask: x.mask)
    let program = Program.attentionGradient(x.q.dtype, size: x.size, tile)
    try queue.launch(
      QueryGradientKernel(
        q: x.q, packedKeys: packedKeys, packedValues: packedValues, k: x.k, o: x.o, g: x.g, dq: x.dq,
        statistics: statistics, mask: mask, queries: queries, keyCount: keys, paddedKeys: paddedKeys,
        heads: heads), program,
      global: [(queries + tile.queries - 1) / tile.queries, x.images * heads], local: [1, 1])
    try queue.launch(
      KeyGradientKernel(
        q: x.q, packedKeys: packedKeys, packedValues: packedValues, g: x.g, dk: x.dk, dv: x.dv,
        statistics: statistics, mask: mask, queries: queries, keyCount: keys, paddedKeys: paddedKeys,
        heads: heads), program,
      global: [(keys + tile.keys - 1) / tile.keys, x.images * heads], local: [1, 1])
  }
}
