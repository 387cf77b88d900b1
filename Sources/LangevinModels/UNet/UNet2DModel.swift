import LangevinNN
import LangevinTensor

/// The denoising network of DDPM (arXiv:2006.11239, appendix B): a UNet over pixels that sees nothing but the noisy
/// picture, the timestep and perhaps a class. unCLIP's super-resolution networks are of this kind too.
public struct UNet2DModel: Sendable {
  /// What the network was built from.
  public let config: UNet2DConfig
  let embeddings: UNetEmbeddings
  let backbone: UNetBackbone
  let path: String

  /// Loads the whole network under diffusers' names. Throws `WeightError`.
  public init(_ config: UNet2DConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    embeddings = try UNetEmbeddings(weights, config.embeddings, model: Self.name)
    backbone = try UNetBackbone(weights, config.backbone)
    try weights.finish()
  }

  /// picture [N, h, w, inChannels] in the dtype of the weights, one timestep an image -> the network's output
  /// (noise, or noise and variance, as it was trained) [N, h, w, outChannels].
  ///
  /// Throws `ModelError.invalidInput` where counts differ, the picture's size is not a multiple of
  /// `config.sizeMultiple`, or class labels are missing or superfluous.
  public func callAsFunction(_ picture: Tensor, timesteps: [Float], classLabels: UNetClassLabels? = nil)
    throws -> Tensor
  {
    try check(picture, timesteps)
    return try layer(path) {
      try backbone(picture, time: embeddings(timesteps, classLabels: classLabels))
    }
  }

  static let name = "UNet2DModel"

  private func check(_ picture: Tensor, _ timesteps: [Float]) throws {
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw ModelError.invalidInput(model: Self.name, reason: reason()) }
    }
    let shape = picture.shape
    try require(
      shape.rank == 4 && shape[3] == config.inChannels,
      "the picture is \(shape), the network takes [N, h, w, \(config.inChannels)]")
    let multiple = config.sizeMultiple
    try require(
      shape[1] > 0 && shape[2] > 0 && shape[1] % multiple == 0 && shape[2] % multiple == 0,
      "a picture of \(shape[1])x\(shape[2]): height and width must be multiples of \(multiple)")
    try require(timesteps.count == shape[0], "\(timesteps.count) timesteps for \(shape[0]) images")
  }
}
