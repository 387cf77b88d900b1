import LangevinNN
import LangevinTensor

/// The denoising network of WAN 2.1 (arXiv:2503.20314): diffusers' `WanTransformer3DModel`.
///
/// Tokens are patches in space and time, all of which attend to each other and to the text; the time embedding
/// shifts, scales and gates every block. Statistics of norms and the modulation of what they normalise are one
/// operation in float32; what the reference keeps in float32 besides (the sums of a table and the time embedding, the
/// gates and the residual stream) is stored as the weights are. The rotations' tables are float32 always.
public struct WanTransformer3DModel: Sendable {
  /// What the network was built from.
  public let config: WanTransformer3DConfig
  let patches: WanPatches
  let timeEmbedding: WanTimeEmbedding
  let textEmbedding: WanTextEmbedding
  let imageEmbedding: WanImageEmbedding?
  let blocks: [WanTransformerBlock]
  /// Shift and scale of the output, [1, 2, C].
  let outputTable: Tensor
  let projection: Linear
  let path: String

  /// Loads the whole network under diffusers' names, one tensor after the other. Throws `WeightError`.
  public init(_ config: WanTransformer3DConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let (channels, embedder) = (config.channels, weights["condition_embedder"])
    patches = try WanPatches(weights["patch_embedding"], config)
    timeEmbedding = try WanTimeEmbedding(embedder, config)
    textEmbedding = try WanTextEmbedding(embedder["text_embedder"], config)
    imageEmbedding = try config.imageChannels.map {
      try WanImageEmbedding(embedder["image_embedder"], inputs: $0, outputs: channels)
    }
    blocks = try (0..<config.layerCount).map { try WanTransformerBlock(weights["blocks"][$0], config) }
    outputTable = try weights.tensor("scale_shift_table", [1, 2, channels])
    projection = try Linear(
      weights["proj_out"], inputs: channels, outputs: config.outChannels * config.patch.count)
    try weights.finish()
  }

  /// latent [N, F, H, W, inChannels], one timestep a video (0...1000), text [N, T, textChannels] with zeros past its
  /// end, image [N, S, imageChannels] where the model has one -> the velocity [N, F, H, W, outChannels].
  ///
  /// All are in the dtype of the weights. Throws `ModelError.invalidInput` where counts differ, or the latent's
  /// extents are not multiples of the patch's.
  public func callAsFunction(_ latent: Tensor, timesteps: [Float], text: Tensor, image: Tensor? = nil) throws
    -> Tensor
  {
    try check(latent, timesteps, text, image)
    return try layer(path) {
      let (time, modulation) = try timeEmbedding(timesteps)
      let context = WanContext(
        text: try textEmbedding(text), image: try image.flatMap { try imageEmbedding?($0) })
      let angles = try patches.grid(latent.shape).angles(headSize: config.headSize, on: latent.device)
      var h = try patches(latent)
      for block in blocks { h = try block(h, modulation: modulation, angles: angles, context: context) }
      let output = Modulation(
        rows: try outputTable + time.reshaped([time.shape[0], 1, config.channels]))
      h = try output.normalized(h, shift: 0, scale: 1, epsilon: config.epsilon)
      return try patches.joined(projection(h), grid: patches.grid(latent.shape))
    }
  }

  private func check(_ latent: Tensor, _ timesteps: [Float], _ text: Tensor, _ image: Tensor?) throws {
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw ModelError.invalidInput(model: "WanTransformer3DModel", reason: reason()) }
    }
    let (shape, patch) = (latent.shape, config.patch)
    try require(
      shape.rank == 5 && shape[4] == config.inChannels,
      "the latent is \(shape), the network takes [N, F, H, W, \(config.inChannels)]")
    for (axis, side) in [(1, patch.frames), (2, patch.height), (3, patch.width)] {
      try require(
        shape[axis] > 0 && shape[axis] % side == 0,
        "a latent of \(shape[1]) frames of \(shape[2])x\(shape[3]): they must be multiples of "
          + "\(patch.frames) and \(patch.height)x\(patch.width)")
      try require(
        shape[axis] / side <= config.maximumPositions,
        "\(shape[axis] / side) tokens along an axis, the network has \(config.maximumPositions) positions")
    }
    try require(timesteps.count == shape[0], "\(timesteps.count) timesteps for \(shape[0]) videos")
    try require(
      text.shape.rank == 3 && text.shape[0] == shape[0] && text.shape[2] == config.textChannels,
      "the text is \(text.shape), the network takes [\(shape[0]), T, \(config.textChannels)]")
    guard let channels = config.imageChannels else {
      return try require(image == nil, "it is a text-to-video model and takes no image")
    }
    try require(
      image.map { $0.shape.rank == 3 && $0.shape[0] == shape[0] && $0.shape[2] == channels } ?? false,
      "an image-to-video model takes an image's states [\(shape[0]), S, \(channels)], got "
        + (image.map { "\($0.shape)" } ?? "none"))
  }
}
