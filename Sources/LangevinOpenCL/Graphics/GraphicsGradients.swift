import LangevinTensor

/// Gradients of weights by `tiled_weight_gradient.cl`, and of attention by `tiled_attention_gradient.cl`.
extension GraphicsKernels {
  func weightGradient(
    _ geometry: ConvolutionGeometry, _ x: TensorView, _ g: TensorView, _ y: TensorView,
    on queue: inout LaunchQueue
  ) throws {
    let (rows, columns) = (y.shape[0], y.shape[1])
    let pixels = g.shape.count / columns
    // Not tuned: a compiler may contract tiles of other sizes otherwise, and bits would depend on them.
    let tile = TiledParameters.plain
    let blocks = [
      (columns + tile.tileColumns - 1) / tile.tileColumns, (rows + tile.tileRows - 1) / tile.tileRows,
    ]
    // Enough work-groups to fill a card.
    let parts = SumParts(pixels, size: 256, multipleOf: 64, atMost: 512 / (blocks[0] * blocks[1]))
    try sum(parts, y, on: &queue) { target, inParts, queue in
      try queue.launch(
        WeightGradientKernel(
          x: x, g: g, y: target, pixels: pixels, partSize: parts.size, rows: rows, columns: columns,
          geometry: geometry), .tiledWeightGradient(x.dtype, inParts: inParts, tile),
        global: [blocks[0] * tile.itemsX, blocks[1] * tile.itemsY, parts.count],
        local: [tile.itemsX, tile.itemsY, 1])
    }
  }

  /// Blocks of a head's rows must fit into local memory.
  func supportsGradient(of attention: Attention, size: Int) -> Bool {
    gradientBytes(gradientTile(size: size), size: size) <= device.localMemory
  }

  func attentionGradient(
    _ attention: Attention, _ x: AttentionGradientViews, on queue: inout LaunchQueue
  ) throws {
    let tile = gradientTile(size: x.size)
    let (queries, keys, heads) = (x.queries, x.keys, attention.heads)
    let statistics = try queue.scratch(x.images * heads * 3 * queries * 4)
    let mask = AttentionMask(attention, mask: x.mask)
    let program = Program.tiledAttentionGradient(x.q.dtype, size: x.size, tile)
    func global(_ rows: Int) -> [Int] {
      [(rows + tile.blockQueries - 1) / tile.blockQueries * tile.items, x.images * heads]
    }
    try queue.launch(
      TiledQueryGradientKernel(
        q: x.q, k: x.k, v: x.v, o: x.o, g: x.g, dq: x.dq, statistics: statistics, mask: mask,
        queries: queries, keyCount: keys, heads: heads), program, global: global(queries),
      local: [tile.items, 1])
    try queue.launch(
      TiledKeyGradientKernel(
        q: x.q, k: x.k, v: x.v, g: x.g, dk: x.dk, dv: x.dv, statistics: statistics, mask: mask,
        queries: queries, keyCount: keys, heads: heads), program, global: global(keys),
      local: [tile.items, 1])
  }

  /// The blocks of the forward kernel's plain form, where they fit.
  private func gradientTile(size: Int) -> TiledAttentionParameters {
    var tile = TiledAttentionParameters.plain
    while gradientBytes(tile, size: size) > device.localMemory, tile.blockKeys > 4 { tile.blockKeys /= 2 }
    // Mesa's drivers unroll loops of up to 32 turns, and keep the sums of longer ones in memory.
    while gradientBytes(tile, size: size) > device.localMemory || size > 32 * tile.items / tile.blockQueries,
      tile.blockQueries > 1
    {
      tile.blockQueries /= 2
    }
    return tile
  }

  /// What the kernels declare.
  private func gradientBytes(_ tile: TiledAttentionParameters, size: Int) -> Int {
    let (owned, walked) = (tile.blockQueries, tile.blockKeys)
    let lanes = tile.items / owned
    let width = (size + lanes - 1) / lanes * lanes
    return 4 * (2 * owned * size + walked * (width + 1) + 2 * owned * (walked + 1) + 3 * max(owned, walked))
  }
}
