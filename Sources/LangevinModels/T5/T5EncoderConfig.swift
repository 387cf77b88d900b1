import Foundation
import LangevinTensor

/// The architecture of a T5 or UMT5 encoder, as transformers' config.json gives it.
public struct T5EncoderConfig: Sendable, Hashable {
  /// Between the two products of the perceptron.
  public enum Nonlinearity: Sendable, Hashable {
    /// `max(x, 0)`.
    case relu
    /// One that a product applies itself.
    case activation(Activation)
  }

  /// The model's name in messages: `T5` or `UMT5`.
  public var name = "UMT5"
  /// Rows of the token table.
  public var vocabularySize = 256384
  /// Channels C of a token.
  public var hiddenSize = 4096
  /// Channels of a head; all heads together need not be as wide as a token.
  public var headSize = 64
  /// Attention heads.
  public var headCount = 64
  /// Channels inside the perceptron.
  public var intermediateSize = 10240
  /// Transformer layers.
  public var layerCount = 24
  /// Rows of a table of relative positions; even.
  public var bucketCount = 32
  /// Positions farther apart than this share the last bucket.
  public var maximumDistance = 128
  /// Whether each layer has its own table of relative positions (UMT5), or all share the first's (T5).
  public var biasInEachLayer = true
  /// `.activation(.geluTanh)` in T5 1.1 and UMT5, `.relu` in T5 1.0.
  public var nonlinearity = Nonlinearity.activation(.geluTanh)
  /// Whether a second projection multiplies what the nonlinearity gives. arXiv:2002.05202.
  public var isGated = true
  /// Added to the mean squares.
  public var epsilon: Float = 1e-6

  /// UMT5-XXL's encoder, the one of WAN 2.1.
  public init() {}

  /// Reads config.json; absent keys have the defaults of transformers' `T5Config` and `UMT5Config`.
  ///
  /// Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("model_type", in: [.string("umt5"), .string("t5")])
    let isUMT5 = try config.string("model_type", default: "t5") == "umt5"
    name = isUMT5 ? "UMT5" : "T5"
    biasInEachLayer = isUMT5
    vocabularySize = try config.int("vocab_size", default: isUMT5 ? 250_112 : 32_128)
    hiddenSize = try config.int("d_model", default: 512)
    headSize = try config.int("d_kv", default: 64)
    headCount = try config.int("num_heads", default: isUMT5 ? 6 : 8)
    intermediateSize = try config.int("d_ff", default: isUMT5 ? 1024 : 2048)
    layerCount = try config.int("num_layers", default: isUMT5 ? 8 : 6)
    bucketCount = try config.int("relative_attention_num_buckets", default: 32)
    maximumDistance = try config.int("relative_attention_max_distance", default: 128)
    epsilon = try config.epsilon("layer_norm_epsilon", default: 1e-6)
    guard bucketCount % 4 == 0, maximumDistance > bucketCount / 4 else {
      throw config.invalid(
        "relative_attention_num_buckets",
        "a multiple of 4, less than four times relative_attention_max_distance \(maximumDistance)")
    }
    // `gated-gelu` means the tanh approximation, `gelu` alone and the other names what they say.
    let functions: [(String, Nonlinearity)] = [
      ("relu", .relu), ("gelu", .activation(.gelu)), ("gelu_new", .activation(.geluTanh)),
      ("gelu_pytorch_tanh", .activation(.geluTanh)), ("silu", .activation(.silu)),
    ]
    let key = "feed_forward_proj"
    try config.require(key, in: functions.flatMap { [.string("gated-" + $0.0), .string($0.0)] })
    let projection = try config.string(key, default: isUMT5 ? "gated-gelu" : "relu")
    isGated = projection.hasPrefix("gated-")
    let function = isGated ? String(projection.dropFirst("gated-".count)) : projection
    nonlinearity =
      projection == "gated-gelu"
      ? .activation(.geluTanh) : functions.first { $0.0 == function }?.1 ?? .relu
  }

  /// The row of the table of relative positions for each query and key [T, T] of a sequence of T tokens.
  ///
  /// Half of the rows are for keys after the query. Of each half, the first half is for distances one by one, the
  /// rest for ranges that grow logarithmically up to `maximumDistance`. arXiv:1910.10683, section 2.1.
  func buckets(length: Int) -> [Int32] {
    let half = bucketCount / 2
    let exact = half / 2
    let rows = (0..<length).map { distance in
      if distance < exact { return distance }
      // In float32, as the reference: which side of a range's end a distance falls on is a matter of rounding.
      let position = log(Float(distance) / Float(exact))
      let steps = position / Float(log(Double(maximumDistance) / Double(exact))) * Float(half - exact)
      return min(exact + Int(steps), half - 1)
    }
    return (0..<length).flatMap { query in
      (0..<length).map { key in Int32(key > query ? half + rows[key - query] : rows[query - key]) }
    }
  }
}
