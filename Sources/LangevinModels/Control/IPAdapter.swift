import LangevinNN
import LangevinTensor

/// Image prompts for a UNet: CLIP's view of a picture becomes a few tokens, which every cross-attention looks
/// at with keys and values of their own. arXiv:2308.06721.
///
/// The files' layout is the authors': `image_proj.…`, and `ip_adapter.N.to_k_ip.weight` with N = 1, 3, … over
/// `UNet2DConditionConfig.crossAttentions`.
public struct IPAdapter: Sendable {
  /// What of the image encoder's output becomes tokens.
  public enum Input: Sendable, Hashable {
    /// The projected embedding [N, C].
    case embedding
    /// The states before the last layer [N, T, C]: "IP-Adapter Plus".
    case states
  }

  enum Projection: Sendable {
    case linear(ImagePromptProjection)
    case resampler(ImagePromptResampler)
  }

  let projection: Projection
  let layers: [(name: String, key: Linear, value: Linear)]
  /// Width of the image encoder's vectors.
  public let inputChannels: Int

  /// Loads the adapter of this UNet.
  ///
  /// Throws `WeightError`: `.missing` for adapters of other kinds, `.wrongShape` and `.unused` for another
  /// UNet's.
  public init(_ unet: UNet2DConditionConfig, _ weights: Weights) throws {
    let images = weights["image_proj"]
    let context = unet.crossAttentionChannels[0]
    if images.contains("latents") {
      let resampler = try ImagePromptResampler(images, outputs: context)
      (projection, inputChannels) = (.resampler(resampler), resampler.inputChannels)
    } else {
      let linear = try ImagePromptProjection(images, outputs: context)
      (projection, inputChannels) = (.linear(linear), linear.inputChannels)
    }
    layers = try unet.crossAttentions.enumerated().map { i, attention in
      let pair = weights["ip_adapter"][2 * i + 1]
      func linear(_ name: String) throws -> Linear {
        try Linear(
          pair[name], inputs: attention.contextChannels, outputs: attention.channels, bias: false)
      }
      return (attention.name, try linear("to_k_ip"), try linear("to_v_ip"))
    }
    try weights.finish()
  }

  /// What of the image encoder's output `tokens` takes.
  public var input: Input {
    switch projection {
    case .linear: .embedding
    case .resampler: .states
    }
  }

  /// The image encoder's output for N pictures, as `input` says -> [N, S, crossAttentionChannels].
  ///
  /// Throws `ModelError.invalidInput` for another shape.
  public func tokens(_ images: Tensor) throws -> Tensor {
    let rank = input == .embedding ? 2 : 3
    guard images.shape.rank == rank, images.shape[-1] == inputChannels else {
      throw ModelError.invalidInput(
        model: "IP-Adapter",
        reason: "the image encoder's output is \(images.shape), the adapter takes "
          + (rank == 2 ? "[N, \(inputChannels)]" : "[N, T, \(inputChannels)]"))
    }
    return switch projection {
    case .linear(let projection): try projection(images)
    case .resampler(let resampler): try resampler(images)
    }
  }

  /// Tokens [N, S, crossAttentionChannels] -> what is added to the UNet, times `scale`: the same in every
  /// step.
  public func callAsFunction(_ tokens: Tensor, scale: Float = 1) throws -> UNetAdditions {
    var additions = UNetAdditions()
    for (name, key, value) in layers {
      additions.imagePrompts[name] = [
        AddedAttention(keys: try key(tokens), values: try value(tokens), scale: scale)
      ]
    }
    return additions
  }
}

/// One linear layer to several tokens, and a norm: `ImageProjModel`.
struct ImagePromptProjection: Sendable {
  let linear: Linear
  let norm: LayerNormalization
  let inputChannels: Int
  let outputs: Int
  /// The authors' models are of four; no file says so.
  static let count = 4

  init(_ weights: Weights, outputs: Int) throws {
    self.outputs = outputs
    inputChannels = try weights["proj"].extent(of: "weight", axis: 1)
    linear = try Linear(weights["proj"], inputs: inputChannels, outputs: Self.count * outputs)
    norm = try LayerNormalization(weights["norm"], channels: outputs)
  }

  /// [N, inputChannels] -> [N, 4, outputs].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try norm(linear(x).reshaped([x.shape[0], Self.count, outputs]))
  }
}

/// Learned queries that look at the image's tokens and at themselves, layer by layer: the "plus" models'
/// resampler. arXiv:2308.06721, section 4.1; after arXiv:2103.03206.
struct ImagePromptResampler: Sendable {
  let queries: Tensor
  let linearIn: Linear
  let blocks: [Block]
  let linearOut: Linear
  let norm: LayerNormalization
  let inputChannels: Int

  /// The authors' models have heads of 64 channels; no file says so.
  static let headChannels = 64

  init(_ weights: Weights, outputs: Int) throws {
    let count = try weights.extent(of: "latents", axis: 1)
    let channels = try weights.extent(of: "latents", axis: 2)
    inputChannels = try weights["proj_in"].extent(of: "weight", axis: 1)
    queries = try weights.tensor("latents", [1, count, channels])
    linearIn = try Linear(weights["proj_in"], inputs: inputChannels, outputs: channels)
    var number = 0
    while weights["layers"].contains("\(number)") { number += 1 }
    blocks = try (0..<number).map { try Block(weights["layers"][$0], channels: channels) }
    linearOut = try Linear(weights["proj_out"], inputs: channels, outputs: outputs)
    norm = try LayerNormalization(weights["norm_out"], channels: outputs)
  }

  /// [N, T, inputChannels] -> [N, queries, outputs].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let start = try queries.broadcast(to: queries.shape.replacing(axis: 0, with: x.shape[0]))
    let image = try linearIn(x)
    return try norm(linearOut(blocks.reduce(start) { try $1($0, image: image) }))
  }

  struct Block: Sendable {
    let imageNorm: LayerNormalization
    let queryNorm: LayerNormalization
    let query: Linear
    /// Keys, then values, in one product.
    let keyValue: Linear
    let output: Linear
    let norm: LayerNormalization
    let expand: Linear
    let contract: Linear
    let inner: Int

    init(_ weights: Weights, channels: Int) throws {
      let (attention, perceptron) = (weights[0], weights[1])
      inner = try attention["to_q"].extent(of: "weight", axis: 0)
      let wide = try perceptron[1].extent(of: "weight", axis: 0)
      imageNorm = try LayerNormalization(attention["norm1"], channels: channels)
      queryNorm = try LayerNormalization(attention["norm2"], channels: channels)
      query = try Linear(attention["to_q"], inputs: channels, outputs: inner, bias: false)
      keyValue = try Linear(attention["to_kv"], inputs: channels, outputs: 2 * inner, bias: false)
      output = try Linear(attention["to_out"], inputs: inner, outputs: channels, bias: false)
      norm = try LayerNormalization(perceptron[0], channels: channels)
      expand = try Linear(perceptron[1], inputs: channels, outputs: wide, bias: false)
      contract = try Linear(perceptron[3], inputs: wide, outputs: channels, bias: false)
    }

    func callAsFunction(_ x: Tensor, image: Tensor) throws -> Tensor {
      let queries = try queryNorm(x)
      let both = try keyValue(Tensor.concatenated([imageNorm(image), queries], axis: 1))
      let mixed = try query(queries).attention(
        keys: both.sliced(0..<inner, axis: 2), values: both.sliced(inner..<2 * inner, axis: 2),
        heads: max(1, inner / ImagePromptResampler.headChannels))
      let h = try output(mixed, residual: x)
      return try contract(expand(norm(h), activation: .gelu), residual: h)
    }
  }
}
