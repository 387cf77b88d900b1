import LangevinTensor

// The kernels of attention_gradient.cl and tiled_attention_gradient.cl.

struct QueryGradientKernel: Kernel {
  static let name = "attention_gradient_queries"
  var q: TensorView
  /// Keys and values with a key's channels apart, in float32.
  var packedKeys, packedValues: OpenCLStorage
  var k, o, g, dq: TensorView
  /// Maximum, 1 / total and the product of output and gradient, of each row.
  var statistics: OpenCLStorage
  var mask: AttentionMask
  var queries, keyCount, paddedKeys, heads: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("q", q)
    try arguments.reads("packed_keys", scratch: packedKeys)
    try arguments.reads("packed_values", scratch: packedValues)
    try arguments.reads("k", k)
    try arguments.reads("o", o)
    try arguments.reads("g", g)
    try arguments.writes("dq", dq)
    try arguments.writes("statistics", scratch: statistics)
    try mask.encode(to: &arguments)
    try arguments.int("queries", queries)
    try arguments.int("key_count", keyCount)
    try arguments.int("padded_keys", paddedKeys)
    try arguments.int("heads", heads)
  }
}

struct KeyGradientKernel: Kernel {
  static let name = "attention_gradient_keys"
  var q: TensorView
  /// As the queries' kernel has them.
  var packedKeys, packedValues: OpenCLStorage
  var g, dk, dv: TensorView
  /// What the queries' kernel wrote.
  var statistics: OpenCLStorage
  var mask: AttentionMask
  var queries, keyCount, paddedKeys, heads: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("q", q)
    try arguments.reads("packed_keys", scratch: packedKeys)
    try arguments.reads("packed_values", scratch: packedValues)
    try arguments.reads("g", g)
    try arguments.writes("dk", dk)
    try arguments.writes("dv", dv)
    try arguments.reads("statistics", scratch: statistics)
    try mask.encode(to: &arguments)
    try arguments.int("queries", queries)
    try arguments.int("key_count", keyCount)
    try arguments.int("padded_keys", paddedKeys)
    try arguments.int("heads", heads)
  }
}

struct TiledQueryGradientKernel: Kernel {
  static let name = "attention_gradient_queries"
  var q, k, v, o, g, dq: TensorView
  /// Maximum, 1 / total and the product of output and gradient, of each row.
  var statistics: OpenCLStorage
  var mask: AttentionMask
  var queries, keyCount, heads: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("q", q)
    try arguments.reads("k", k)
    try arguments.reads("v", v)
    try arguments.reads("o", o)
    try arguments.reads("g", g)
    try arguments.writes("dq", dq)
    try arguments.writes("statistics", scratch: statistics)
    try mask.encode(to: &arguments)
    try arguments.int("queries", queries)
    try arguments.int("key_count", keyCount)
    try arguments.int("heads", heads)
  }
}

struct TiledKeyGradientKernel: Kernel {
  static let name = "attention_gradient_keys"
  var q, k, v, g, dk, dv: TensorView
  /// What the queries' kernel wrote.
  var statistics: OpenCLStorage
  var mask: AttentionMask
  var queries, keyCount, heads: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("q", q)
    try arguments.reads("k", k)
    try arguments.reads("v", v)
    try arguments.reads("g", g)
    try arguments.writes("dk", dk)
    try arguments.writes("dv", dv)
    try arguments.reads("statistics", scratch: statistics)
    try mask.encode(to: &arguments)
    try arguments.int("queries", queries)
    try arguments.int("key_count", keyCount)
    try arguments.int("heads", heads)
  }
}
