import LangevinNN
import LangevinTensor

/// The architecture of an `RRDBNet`, which its weights tell by their names and shapes.
public struct RRDBNetConfig: Sendable, Hashable {
  /// Residual in residual dense blocks: 23 in RealESRGAN_x4plus, 6 in its model of drawings.
  public var blocks = 23
  /// Channels between the blocks.
  public var features = 64
  /// Channels that each convolution of a dense block adds.
  public var growth = 32
  /// How many times as wide and as high the picture becomes: 4, 2 or 1.
  public var scale = 4

  /// The architecture of RealESRGAN_x4plus.
  public init() {}

  /// Pixels by pixels of the picture that become the channels of one, as the trunk always enlarges by 4.
  var unshuffle: Int { 4 / scale }
  /// How far a pixel of the picture reaches, in pixels: 15 convolutions a block, one on each side of them,
  /// and behind them four at 2 and 4 times the size.
  var reach: Int { (15 * blocks + 4) * unshuffle }
}

/// The generator of Real-ESRGAN (arXiv:2107.10833) and ESRGAN (arXiv:1809.00219, section 3.1), in BasicSR's
/// layout of weights.
public struct RRDBNet: Sendable {
  /// What the network was built from.
  public let config: RRDBNetConfig
  let convFirst: Convolution
  let blocks: [ResidualInResidualDenseBlock]
  let convBody: Convolution
  /// Each after the picture was doubled.
  let convUp: [Convolution]
  let convHR: Convolution
  let convLast: Convolution
  let path: String

  /// Reads the weights under basicsr's names. Throws `WeightError` where one is missing or has another shape.
  public init(_ config: RRDBNetConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let (features, unshuffle) = (config.features, config.unshuffle)
    func convolution(_ name: String, inputs: Int? = nil, outputs: Int? = nil) throws -> Convolution {
      try Convolution(weights[name], inputs: inputs ?? features, outputs: outputs ?? features, kernel: 3)
    }
    convFirst = try convolution("conv_first", inputs: 3 * unshuffle * unshuffle)
    blocks = try (0..<config.blocks).map {
      try ResidualInResidualDenseBlock(weights["body"][$0], features: features, growth: config.growth)
    }
    convBody = try convolution("conv_body")
    convUp = try ["conv_up1", "conv_up2"].map { try convolution($0) }
    convHR = try convolution("conv_hr")
    convLast = try convolution("conv_last", outputs: 3)
    try weights.finish()
  }

  /// Picture [N, H, W, 3] in 0...1 -> [N, scale H, scale W, 3], about 0...1 and not clamped.
  ///
  /// Height and width are multiples of `4 / scale`. Throws `TensorError`.
  public func callAsFunction(_ picture: Tensor) throws -> Tensor {
    try layer(path) {
      let first = try convFirst(picture.pixelUnshuffled(config.unshuffle))
      let trunk = try convBody(blocks.reduce(first) { try $1($0) }, residual: first)
      let large = try convUp.reduce(trunk) { try $1($0.upsampledNearest(2)).leakyReLU(0.2) }
      return try convLast(convHR(large).leakyReLU(0.2))
    }
  }
}

/// Three dense blocks beside the identity; a fifth of their change is added.
struct ResidualInResidualDenseBlock: Sendable {
  let dense: [ResidualDenseBlock]
  let path: String

  init(_ weights: Weights, features: Int, growth: Int) throws {
    path = weights.layerPath
    dense = try ["rdb1", "rdb2", "rdb3"].map {
      try ResidualDenseBlock(weights[$0], features: features, growth: growth)
    }
  }

  /// [N, H, W, features] -> the same.
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let change = try dense.reduce(x) { try $1($0) }
      return try Tensor.combination([(0.2, change), (1, x)])
    }
  }
}

/// Five convolutions, each of which sees what all before it have made.
struct ResidualDenseBlock: Sendable {
  let convolutions: [Convolution]
  let path: String

  init(_ weights: Weights, features: Int, growth: Int) throws {
    path = weights.layerPath
    convolutions = try (0..<5).map {
      try Convolution(
        weights["conv\($0 + 1)"], inputs: features + $0 * growth, outputs: $0 < 4 ? growth : features,
        kernel: 3)
    }
  }

  /// [N, H, W, features] -> the same.
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let dense = try convolutions.dropLast().reduce(x) { seen, convolution in
        let made = try convolution(seen).leakyReLU(0.2)
        return try Tensor.concatenated([seen, made], axis: 3)
      }
      let change = try convolutions[4](dense)
      return try Tensor.combination([(0.2, change), (1, x)])
    }
  }
}
