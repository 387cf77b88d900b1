import LangevinTensor

// The kernels of flash_attention.cl and tiled_attention.cl.

/// What both kernels are told about the mask and the scale.
struct AttentionMask {
  private var mask: TensorView?
  /// Elements between the masks of two images; 0 where one serves all.
  private var stride: Int
  private var causal: Bool
  private var scale: Float

  /// `mask` is [queries, keys] or [images, queries, keys].
  init(_ attention: Attention, mask: TensorView?) {
    self.mask = mask
    stride = mask.map { $0.shape.rank == 3 ? $0.shape[1] * $0.shape[2] : 0 } ?? 0
    (causal, scale) = (attention.causal, attention.scale)
  }

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("mask", mask)
    try arguments.ulong("mask_image", stride)
    try arguments.flag("masked", mask != nil)
    try arguments.flag("causal", causal)
    try arguments.float("scale", scale)
  }
}

struct FlashAttentionKernel: Kernel {
  static let name = "flash_attention"
  var q: TensorView
  /// Packed, in float32.
  var keys, values: OpenCLStorage
  var y: TensorView
  var mask: AttentionMask
  var queries, keyCount, paddedKeys, heads: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("q", q)
    try arguments.reads("keys", scratch: keys)
    try arguments.reads("values", scratch: values)
    try arguments.writes("y", y)
    try mask.encode(to: &arguments)
    try arguments.int("queries", queries)
    try arguments.int("key_count", keyCount)
    try arguments.int("padded_keys", paddedKeys)
    try arguments.int("heads", heads)
  }
}

struct TiledAttentionKernel: Kernel {
  static let name = "tiled_attention"
  var q, keys, values, y: TensorView
  var mask: AttentionMask
  var queries, keyCount, heads: Int

  private var isAligned: Bool { [q, keys, values].allSatisfy { $0.offset.isMultiple(of: 4) } }

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("q", q)
    try arguments.reads("keys", keys)
    try arguments.reads("values", values)
    try arguments.writes("y", y)
    try mask.encode(to: &arguments)
    try arguments.int("queries", queries)
    try arguments.int("key_count", keyCount)
    try arguments.int("heads", heads)
    try arguments.flag("aligned", isAligned)
  }
}
