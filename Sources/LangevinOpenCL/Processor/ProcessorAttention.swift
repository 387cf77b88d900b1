import LangevinTensor

/// Attention by `flash_attention.cl`, on keys and values that are packed to float32 first.
extension ProcessorKernels {
  func attention(
    _ attention: Attention, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let operands = attention.operands(x)
    let (q, k, v) = (operands.queries, operands.keys, operands.values)
    let (images, queries, keys, heads) = (q.shape[0], q.shape[1], k.shape[1], attention.heads)
    let size = q.shape[2] / heads
    guard size > 0 else { return }
    let key = TuningKey.attention(.cpu, q.dtype, queries: queries, keys: keys, size: size)
    let parameters = queue.tuning.parameters(key)
    guard case .flashAttention(let tile) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    let (paddedKeys, paddedSize) = ((keys + 31) / 32 * 32, tile.paddedSize(size))
    let width = heads * size
    // Values with padded rows, a head after another.
    let packedKeys = try packPanels(k, heads: heads, on: &queue)
    let packedValues = try pack(
      v, [images * heads, paddedKeys, paddedSize],
      Arrangement(
        channels: keys, rows: keys, paddedRows: paddedKeys, columns: size, width: paddedSize,
        channelStride: width, columnStride: 1, batch: images * heads, inner: heads,
        outerStride: keys * width, innerStride: size), on: &queue)
    try queue.launch(
      FlashAttentionKernel(
        q: q, keys: packedKeys, values: packedValues, y: y,
        mask: AttentionMask(attention, mask: operands.mask), queries: queries, keyCount: keys,
        paddedKeys: paddedKeys, heads: heads), .flashAttention(q.dtype, size: size, tile),
      global: [(queries + tile.blockQueries - 1) / tile.blockQueries, images * heads], local: [1, 1])
  }

  /// Rows [N, keys, heads * size] in panels of 32 keys with a key's channels apart, a head after another, in
  /// float32.
  func packPanels(_ x: TensorView, heads: Int, on queue: inout LaunchQueue) throws -> OpenCLStorage {
    let (images, keys, width) = (x.shape[0], x.shape[1], x.shape[2])
    let size = width / heads
    return try pack(
      x, [images * heads, (keys + 31) / 32, size, 32],
      Arrangement(
        channels: size, rows: size, paddedRows: size, columns: keys, width: 32, channelStride: 1,
        columnStride: width, batch: images * heads, inner: heads, outerStride: keys * width,
        innerStride: size), on: &queue)
  }

  private func pack(
    _ x: TensorView, _ shape: Shape, _ arrangement: Arrangement, on queue: inout LaunchQueue
  ) throws -> OpenCLStorage {
    let spec = TensorSpec(shape)
    let storage = try queue.scratch(spec.byteCount)
    try arrange(x, to: TensorView(storage: storage, offset: 0, spec: spec), arrangement, on: &queue)
    return storage
  }
}
