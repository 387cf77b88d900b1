import LangevinKernels
import LangevinTensor

extension OpenCLBackend {
  func attention(_ attention: Attention, _ x: [TensorView], _ y: TensorView) throws {
    let (q, k, v) = (x[0], x[1], x[2])
    let images = q.shape[0]
    let (queries, keys) = (q.shape[1], k.shape[1])
    let size = q.shape[2] / attention.heads
    guard size > 0 else { return }
    let mask: Argument = attention.mask ? .operand(x[3]) : .none
    let maskImage = attention.mask && x[3].shape.rank == 3 ? queries * keys : 0
    switch family {
    case .cpu:
      // Blocks sized so that scores, outputs and a block of keys rest in the nearest caches.
      let blockKeys = 256
      let blockQueries = 32
      let paddedKeys = (keys + 31) / 32 * 32
      let paddedSize = (size + 15) / 16 * 16
      let width = attention.heads * size
      func pack(_ source: TensorView, _ shape: Shape, _ arrangement: Arrangement) throws -> OpenCLStorage {
        let packed = try temporary(TensorSpec(shape))
        try arrange(source, to: packed, arrangement)
        guard let storage = packed.storage as? OpenCLStorage else { preconditionFailure("a foreign storage") }
        return storage
      }
      let packedKeys = try pack(
        k, [images * attention.heads, paddedKeys / 32, size, 32],
        Arrangement(
          channels: size, rows: size, paddedRows: size, columns: keys, width: 32, tapStride: 0,
          channelStride: 1,
          columnStride: width, batch: images * attention.heads, inner: attention.heads,
          outerStride: keys * width,
          innerStride: size))
      let packedValues = try pack(
        v, [images * attention.heads, paddedKeys, paddedSize],
        Arrangement(
          channels: keys, rows: keys, paddedRows: paddedKeys, columns: size, width: paddedSize, tapStride: 0,
          channelStride: width, columnStride: 1, batch: images * attention.heads, inner: attention.heads,
          outerStride: keys * width, innerStride: size))
      try launch(
        Launch(
          "flash_attention", .flashAttention,
          [
            "T": q.dtype.kernelName, "VW": 16, "D": size, "DP": paddedSize, "BQ": blockQueries,
            "BK": blockKeys,
            "MR": 8,
          ],
          global: [(queries + blockQueries - 1) / blockQueries, images * attention.heads], local: [1, 1],
          [
            .operand(q), .scratch(packedKeys), .scratch(packedValues), .operand(y), mask, .ulong(maskImage),
            .int(attention.mask ? 1 : 0), .int(attention.causal ? 1 : 0), .float(attention.scale),
            .int(queries), .int(keys), .int(paddedKeys), .int(attention.heads),
          ]))
    case .gpu:
      let (blockQueries, blockKeys) = tiledBlocks(size: size)
      let items = Subgroups.items
      try launch(
        Launch(
          "tiled_attention", .tiledAttention,
          [
            "T": q.dtype.kernelName, "VW": 4, "D": size, "BQ": blockQueries, "BK": blockKeys, "LOCAL": items,
          ],
          global: [(queries + blockQueries - 1) / blockQueries * items, images * attention.heads],
          local: [items, 1],
          [
            .operand(q), .operand(k), .operand(v), .operand(y), mask, .ulong(maskImage),
            .int(attention.mask ? 1 : 0), .int(attention.causal ? 1 : 0), .float(attention.scale),
            .int(queries), .int(keys), .int(attention.heads),
          ]))
    }
  }

  /// Query and key rows that share a work-group's local memory.
  private func tiledBlocks(size: Int) -> (queries: Int, keys: Int) {
    var (queries, keys) = (16, 32)
    while localBytes(queries, keys, size) > context.description.localMemory, keys > 4 { keys /= 2 }
    while localBytes(queries, keys, size) > context.description.localMemory, queries > 1 { queries /= 2 }
    return (queries, keys)
  }

  /// What `tiled_attention` declares.
  private func localBytes(_ queries: Int, _ keys: Int, _ size: Int) -> Int {
    4 * (queries * size + keys * (size + 1) + queries * (keys + 1) + 3 * queries)
  }

  func supports(_ attention: Attention, size: Int) -> Bool {
    guard family == .gpu else { return true }
    let blocks = tiledBlocks(size: size)
    return localBytes(blocks.queries, blocks.keys, size) <= context.description.localMemory
  }
}
