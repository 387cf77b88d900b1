import Langevin
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// The networks of the trained experiment: seconds to minutes of training on two cores.
enum SmallModels {
  static let clip: CLIPConfig = {
    var config = CLIPConfig()
    config.projectionSize = 32
    (config.text.hiddenSize, config.text.intermediateSize) = (64, 128)
    (config.text.layerCount, config.text.headCount, config.text.maxPositions) = (2, 4, 6)
    config.text.vocabularySize = ShapePictures.vocabulary
    config.text.endOfTextToken = Int(ShapePictures.endToken)
    (config.vision.hiddenSize, config.vision.intermediateSize) = (64, 128)
    (config.vision.layerCount, config.vision.headCount) = (2, 4)
    (config.vision.imageSize, config.vision.patchSize) = (ShapePictures.size, 4)
    (config.text.projectionSize, config.vision.projectionSize) = (32, 32)
    return config
  }()

  static func clipStart(_ seed: UInt64) -> InitialWeights {
    InitialWeights(seed: seed) { name, shape, weight in
      // CLIP's own: arXiv:2103.00020, section 2.5.
      if name == "logit_scale" { return .constant(2.6593) }
      if name.hasSuffix("class_embedding") { return .normal(deviation: 0.125) }
      return InitialWeights.pytorch(name, shape, weight)
    }
  }

  /// A UNet that starts by saying nothing.
  static func unetStart(_ seed: UInt64) -> InitialWeights {
    InitialWeights(seed: seed) { name, shape, weight in
      name.hasPrefix("conv_out") ? .constant(0) : InitialWeights.pytorch(name, shape, weight)
    }
  }

  static func plainUNet() throws -> UNet2DConfig {
    try UNet2DConfig(
      parsed(
        """
        {"_class_name": "UNet2DModel", "sample_size": 16, "in_channels": 3, "out_channels": 3,
         "layers_per_block": 1, "block_out_channels": [32, 64], "norm_num_groups": 8, "add_attention": false,
         "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"]}
        """))
  }

  /// Looks at tokens of so many channels, where the picture is half as large.
  static func conditionalUNet(tokenChannels: Int) throws -> UNet2DConditionConfig {
    try UNet2DConditionConfig(
      parsed(
        """
        {"_class_name": "UNet2DConditionModel", "sample_size": 16, "in_channels": 3, "out_channels": 3,
         "layers_per_block": 1, "block_out_channels": [32, 64], "norm_num_groups": 8, "attention_head_dim": 4,
         "cross_attention_dim": \(tokenChannels),
         "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
         "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}
        """))
  }

  private static func parsed(_ text: String) throws -> ConfigObject {
    try ConfigObject(StrictJSON(parsing: Array(text.utf8)))
  }
}

/// A network, and the loss of some samples.
struct SmallTask: TrainingTask {
  let networks: [TrainedNetwork]
  private let body: @Sendable (Range<UInt64>, Weights) throws -> Tensor

  init(
    start: any WeightSource, build: @escaping @Sendable (Weights) throws -> Void,
    loss: @escaping @Sendable (Range<UInt64>, Weights) throws -> Tensor
  ) {
    networks = [TrainedNetwork("network", start: start, build: build)]
    body = loss
  }

  func batch(_ samples: Range<UInt64>) -> Range<UInt64> { samples }
  func loss(_ batch: Range<UInt64>, _ weights: TrainingWeights) throws -> Tensor {
    try loss(of: batch, weights["network"])
  }
  func loss(of batch: Range<UInt64>, _ weights: Weights) throws -> Tensor { try body(batch, weights) }
}
