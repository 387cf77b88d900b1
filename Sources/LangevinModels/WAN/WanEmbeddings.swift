import LangevinNN
import LangevinTensor

/// How many tokens lie along each axis.
struct WanGrid: Sendable, Hashable {
  var frames: Int
  var height: Int
  var width: Int

  /// Of a head's channels a third for each axis of a frame, the rest for time. arXiv:2503.20314, section 4.2.
  func angles(headSize: Int, on device: Device) throws -> RotaryAngles {
    let side = 2 * (headSize / 6)
    return try RotaryAngles(
      extents: [frames, height, width], channels: [headSize - 2 * side, side, side], on: device)
  }
}

/// Cuts a latent into patches, projects each to a token, and puts patches together again: a convolution whose stride
/// is its kernel is one product.
struct WanPatches: Sendable {
  let weight: Weight
  let bias: Tensor
  let patch: WanTransformer3DConfig.Patch
  let path: String

  /// Loads `weight` [C, inputs, frames, height, width] and `bias` [C].
  init(_ weights: Weights, _ config: WanTransformer3DConfig) throws {
    path = weights.layerPath
    patch = config.patch
    let (outputs, inputs) = (config.channels, config.inChannels)
    let kernel = try weights.tensor(
      "weight", [outputs, inputs, patch.frames, patch.height, patch.width])
    weight = try layer(weights.layerPath) {
      try Weight(
        convolution: kernel.reshaped([
          outputs, inputs, config.patch.frames * config.patch.height, config.patch.width,
        ]))
    }
    bias = try weights.tensor("bias", [outputs])
  }

  /// Of a latent [N, F, H, W, C].
  func grid(_ latent: Shape) -> WanGrid {
    WanGrid(
      frames: latent[1] / patch.frames, height: latent[2] / patch.height, width: latent[3] / patch.width)
  }

  /// [N, F, H, W, inputs] -> [N, T, C].
  func callAsFunction(_ latent: Tensor) throws -> Tensor {
    let (grid, videos) = (grid(latent.shape), latent.shape[0])
    return try layer(path) {
      let tokens = try latent.reshaped([
        videos * grid.frames, patch.frames, grid.height, patch.height, grid.width,
        patch.width * latent.shape[4],
      ]).transposed([0, 2, 4, 1, 3, 5])
      return try tokens.reshaped([videos, -1, weight.rows]).matmul(weight, bias: bias)
    }
  }

  /// Tokens [N, T, patch * channels] -> [N, F, H, W, channels].
  func joined(_ tokens: Tensor, grid: WanGrid) throws -> Tensor {
    let videos = tokens.shape[0]
    let pixels = try tokens.reshaped([
      videos * grid.frames, grid.height, grid.width, patch.frames, patch.height, -1,
    ]).transposed([0, 3, 1, 4, 2, 5])
    return try pixels.reshaped([
      videos, grid.frames * patch.frames, grid.height * patch.height, grid.width * patch.width, -1,
    ])
  }
}

/// The timestep's embedding, and the modulation of all blocks from it.
struct WanTimeEmbedding: Sendable {
  let embedding: TimestepEmbedding
  let projection: Linear
  let channels: Int

  /// Loads `time_embedder` and `time_proj`.
  init(_ weights: Weights, _ config: WanTransformer3DConfig) throws {
    channels = config.channels
    embedding = try TimestepEmbedding(
      weights["time_embedder"],
      sinusoid: Sinusoid(channels: config.frequencyChannels, flipped: true, shift: 0), outputs: channels)
    projection = try Linear(weights["time_proj"], inputs: channels, outputs: 6 * channels)
  }

  /// One timestep a video -> the embedding [N, C], and the modulation [N, 6, C].
  func callAsFunction(_ timesteps: [Float]) throws -> (Tensor, Tensor) {
    let time = try embedding(timesteps, activation: .identity)
    return (time, try projection(time.silu()).reshaped([timesteps.count, 6, channels]))
  }
}

/// The text encoder's states made as wide as a token.
struct WanTextEmbedding: Sendable {
  let linear1: Linear
  let linear2: Linear
  let path: String

  init(_ weights: Weights, _ config: WanTransformer3DConfig) throws {
    path = weights.layerPath
    linear1 = try Linear(weights["linear_1"], inputs: config.textChannels, outputs: config.channels)
    linear2 = try Linear(weights["linear_2"], inputs: config.channels, outputs: config.channels)
  }

  /// [N, T, textChannels] -> [N, T, C].
  func callAsFunction(_ text: Tensor) throws -> Tensor {
    try layer(path) { try linear2(linear1(text, activation: .geluTanh)) }
  }
}

/// An image encoder's states made as wide as a token.
struct WanImageEmbedding: Sendable {
  let norm1: LayerNormalization
  let linear1: Linear
  let linear2: Linear
  let norm2: LayerNormalization
  let path: String

  init(_ weights: Weights, inputs: Int, outputs: Int) throws {
    path = weights.layerPath
    norm1 = try LayerNormalization(weights["norm1"], channels: inputs)
    linear1 = try Linear(weights["ff"]["net"][0]["proj"], inputs: inputs, outputs: inputs)
    linear2 = try Linear(weights["ff"]["net"][2], inputs: inputs, outputs: outputs)
    norm2 = try LayerNormalization(weights["norm2"], channels: outputs)
  }

  /// [N, S, inputs] -> [N, S, outputs].
  func callAsFunction(_ image: Tensor) throws -> Tensor {
    try layer(path) { try norm2(linear2(linear1(norm1(image), activation: .gelu))) }
  }
}
