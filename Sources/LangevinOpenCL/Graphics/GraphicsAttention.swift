import LangevinTensor

/// Attention by `tiled_attention.cl`.
extension GraphicsKernels {
  /// A block of a head's rows must fit into local memory.
  func supports(_ attention: Attention, size: Int) -> Bool {
    let smallest = TiledAttentionParameters.plain.fitted(size: size, localMemory: device.localMemory)
    return smallest.localBytes(size: size) <= device.localMemory
  }

  func attention(
    _ attention: Attention, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let operands = attention.operands(x)
    let (q, k, v) = (operands.queries, operands.keys, operands.values)
    let (images, queries, keys) = (q.shape[0], q.shape[1], k.shape[1])
    let size = q.shape[2] / attention.heads
    guard size > 0 else { return }
    let key = TuningKey.attention(.gpu, q.dtype, queries: queries, keys: keys, size: size)
    let parameters = queue.tuning.parameters(key)
    guard case .tiledAttention(let chosen) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    let tile = chosen.fitted(size: size, localMemory: device.localMemory)
    let blocks = (queries + tile.blockQueries - 1) / tile.blockQueries
    let subgroups = tile.itemQueries == 1 && usesSubgroups(&queue)
    try queue.launch(
      TiledAttentionKernel(
        q: q, keys: k, values: v, y: y, mask: AttentionMask(attention, mask: operands.mask),
        queries: queries, keyCount: keys, heads: attention.heads),
      .tiledAttention(q.dtype, size: size, tile, subgroups: subgroups),
      global: [blocks * tile.items, images * attention.heads], local: [tile.items, 1])
  }
}
