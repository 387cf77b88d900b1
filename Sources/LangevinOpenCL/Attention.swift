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
    switch tuning.parameters(
      .attention(family, q.dtype, queries: queries, keys: keys, size: size))
    {
    case .flashAttention(let parameters):
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
            "T": q.dtype.kernelName, "VW": 16, "D": size, "DP": paddedSize, "BQ": parameters.blockQueries,
            "BK": parameters.blockKeys, "MR": parameters.tileRows, "MV": parameters.tileVectors,
          ],
          global: [
            (queries + parameters.blockQueries - 1) / parameters.blockQueries, images * attention.heads,
          ],
          local: [1, 1],
          [
            .operand(q), .scratch(packedKeys), .scratch(packedValues), .operand(y), mask, .ulong(maskImage),
            .int(attention.mask ? 1 : 0), .int(attention.causal ? 1 : 0), .float(attention.scale),
            .int(queries), .int(keys), .int(paddedKeys), .int(attention.heads),
          ]))
    case .tiledAttention(let parameters):
      let fitted = parameters.fitted(size: size, localMemory: context.description.localMemory)
      let items = fitted.items
      try launch(
        Launch(
          "tiled_attention", .tiledAttention,
          [
            "T": q.dtype.kernelName, "VW": 4, "D": size, "BQ": fitted.blockQueries, "BK": fitted.blockKeys,
            "LOCAL": items,
          ],
          global: [
            (queries + fitted.blockQueries - 1) / fitted.blockQueries * items, images * attention.heads,
          ],
          local: [items, 1],
          [
            .operand(q), .operand(k), .operand(v), .operand(y), mask, .ulong(maskImage),
            .int(attention.mask ? 1 : 0), .int(attention.causal ? 1 : 0), .float(attention.scale),
            .int(queries), .int(keys), .int(attention.heads),
          ]))
    case .panels, .tiled: preconditionFailure("parameters of another kernel")
    }
  }

  func supports(_ attention: Attention, size: Int) -> Bool {
    guard family == .gpu else { return true }
    let localMemory = context.description.localMemory
    let smallest = TiledAttentionParameters().fitted(size: size, localMemory: localMemory)
    return smallest.localBytes(size: size) <= localMemory
  }
}
