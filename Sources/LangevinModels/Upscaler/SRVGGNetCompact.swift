import LangevinNN
import LangevinTensor

/// The architecture of an `SRVGGNetCompact`, which its weights tell by their names and shapes.
public struct SRVGGNetCompactConfig: Sendable, Hashable {
  /// Convolutions between the first and the last: 32 in realesr-general-x4v3, 16 in realesr-animevideov3.
  public var convolutions = 32
  /// Channels between them.
  public var features = 64
  /// How many times as wide and as high the picture becomes.
  public var scale = 4

  /// The architecture of realesr-general-x4v3.
  public init() {}

  /// How far a pixel of the picture reaches, in pixels.
  var reach: Int { convolutions + 2 }
}

/// The small generator of Real-ESRGAN (arXiv:2107.10833): convolutions at the picture's own size, whose
/// result is added to the picture with its pixels repeated. In BasicSR's layout of weights.
public struct SRVGGNetCompact: Sendable {
  /// What the network was built from.
  public let config: SRVGGNetCompactConfig
  let layers: [(convolution: Convolution, activation: PReLU)]
  let last: Convolution
  let path: String

  /// Reads the weights under basicsr's names. Throws `WeightError` where one is missing or has another shape.
  public init(_ config: SRVGGNetCompactConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let (body, features) = (weights["body"], config.features)
    layers = try (0...config.convolutions).map { index in
      let inputs = index == 0 ? 3 : features
      let convolution = try Convolution(body[2 * index], inputs: inputs, outputs: features, kernel: 3)
      return (convolution, try PReLU(body[2 * index + 1], channels: features))
    }
    last = try Convolution(
      body[2 * config.convolutions + 2], inputs: features, outputs: 3 * config.scale * config.scale, kernel: 3
    )
    try weights.finish()
  }

  /// Picture [N, H, W, 3] in 0...1 -> [N, scale H, scale W, 3], about 0...1 and not clamped. Throws
  /// `TensorError`.
  public func callAsFunction(_ picture: Tensor) throws -> Tensor {
    try layer(path) {
      let h = try layers.reduce(picture) { try $1.activation($1.convolution($0)) }
      return try last(h).pixelShuffled(config.scale) + picture.upsampledNearest(config.scale)
    }
  }
}

/// `max(x, 0) + a min(x, 0)` with a slope a for each channel (arXiv:1502.01852, eq. 1).
struct PReLU: Sendable {
  let slopes: Tensor
  let path: String

  init(_ weights: Weights, channels: Int) throws {
    path = weights.layerPath
    slopes = try weights.tensor("weight", [channels])
  }

  /// [..., channels] -> the same.
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let limit = Float.greatestFiniteMagnitude
      return try x.clamped(0, limit) + x.clamped(-limit, 0) * slopes
    }
  }
}
