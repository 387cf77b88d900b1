import Foundation
import Langevin
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import Synchronization

/// One training step without its update: a network of random weights, the mean square error to noise, and the gradients
/// of all parameters.
enum GradientStep {
  /// diffusers' `UNet2DModel` at 32x32, as people train it on small pictures: 6.5 million parameters.
  static let pixels = "unet2d"
  /// A UNet in latents of 16x16 that looks at 16 tokens: 15 million parameters.
  static let latents = "latent-unet"
  static let names = [pixels, latents]
  /// Pictures of a step.
  static let batch = 64

  static func workloads(_ wanted: String?, dtype: DType) throws -> [BenchWorkload] {
    try names.filter { wanted == nil || wanted == $0 }.map { name in
      let text = name == pixels ? pixelConfig : latentConfig
      let config = try ConfigObject(StrictJSON(parsing: [UInt8](text.utf8)))
      // Sums of thousands of products in another order, through some twenty layers and back.
      let check = BenchWorkload.Check.reference(tolerance: dtype == .float32 ? 1e-3 : 5e-2)
      return BenchWorkload("\(name) gradients", dtype: dtype, check: check) { device in
        let parameters = HeldWeights(RandomWeights())
        let step = try name == pixels ? pixelStep(config) : latentStep(config)
        _ = try step(device, Weights(parameters, on: device, as: dtype))
        return {
          let tape = Tape()
          let watched = WatchedWeights(parameters, by: tape)
          let loss = try step(device, Weights(watched, on: device, as: dtype))
          let leaves = watched.parameters.sorted { $0.key < $1.key }.map(\.value)
          let gradients = try tape.gradients(of: loss, scale: dtype == .float16 ? 1024 : 1, at: leaves)
          // The first layer's, where the backward pass ends.
          let index = watched.parameters.keys.sorted().firstIndex { $0 == "conv_in.weight" } ?? 0
          return { try gradients[index]?.floats() ?? [] }
        }
      }
    }
  }

  /// A loss, from weights that may be watched.
  private typealias Step = @Sendable (Device, Weights) throws -> Tensor

  private static func noise(_ shape: Shape, _ step: UInt32, _ device: Device, _ dtype: DType) throws -> Tensor
  {
    try Tensor.normal(shape, seed: 7, stream: 7, step: step, on: device).cast(to: dtype)
  }

  private static func meanSquare(_ output: Tensor, _ target: Tensor) throws -> Tensor {
    let difference = try output.cast(to: .float32) - target.cast(to: .float32)
    return try difference.map(.square).reduced(.mean, axes: [0, 1, 2, 3]).reshaped([1])
  }

  private static func pixelStep(_ file: ConfigObject) throws -> Step {
    let config = try UNet2DConfig(file)
    return { device, weights in
      let shape: Shape = [batch, 32, 32, 3]
      let output = try UNet2DModel(config, weights)(
        noise(shape, 0, device, weights.dtype), timesteps: (0..<batch).map { Float($0 * 15) })
      return try meanSquare(output, noise(shape, 1, device, weights.dtype))
    }
  }

  private static func latentStep(_ file: ConfigObject) throws -> Step {
    let config = try UNet2DConditionConfig(file)
    return { device, weights in
      let shape: Shape = [batch, 16, 16, 8]
      let output = try UNet2DConditionModel(config, weights)(
        noise(shape, 0, device, weights.dtype), timesteps: (0..<batch).map { Float($0 * 15) },
        context: noise([batch, 16, 256], 2, device, weights.dtype))
      return try meanSquare(output, noise(shape, 1, device, weights.dtype))
    }
  }

  private static let pixelConfig = """
    {"_class_name": "UNet2DModel", "sample_size": 32, "in_channels": 3, "out_channels": 3, "layers_per_block": 2,
     "block_out_channels": [64, 128, 128],
     "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
     "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]}
    """
  private static let latentConfig = """
    {"_class_name": "UNet2DConditionModel", "sample_size": 16, "in_channels": 8, "out_channels": 8,
     "layers_per_block": 1, "block_out_channels": [96, 192, 192], "cross_attention_dim": 256,
     "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
     "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}
    """
}

/// The tensors of a source, each loaded once and kept.
final class HeldWeights: WeightSource {
  private let source: any WeightSource
  private let held = Mutex<[String: Tensor]>([:])

  init(_ source: any WeightSource) { self.source = source }

  var names: [String] { source.names }
  var description: String { source.description }
  func spec(of name: String) -> TensorSpec? { source.spec(of: name) }
  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    source.spec(of: name, expecting: shape)
  }
  func load(_ name: String, on device: Device) throws -> Tensor {
    if let known = held.withLock({ $0[name] }) { return known }
    let tensor = try source.load(name, on: device)
    held.withLock { $0[name] = tensor }
    return tensor
  }
}
