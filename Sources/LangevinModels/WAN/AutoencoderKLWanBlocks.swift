import LangevinNN
import LangevinTensor

// Every block takes the frames of a chunk of one video, [F, H, W, C], and the history of the chunks before.

/// `x / |x| * sqrt(C) * gamma` over the channels of a pixel.
struct WanNormalization: Sendable {
  let gamma: Tensor
  let epsilon: Float
  let path: String

  /// Loads `gamma`, [channels, 1, 1, 1] or, in attention, [channels, 1, 1].
  init(_ weights: Weights, channels: Int, axes: Int = 3) throws {
    path = weights.layerPath
    let shape = Shape([channels] + [Int](repeating: 1, count: axes))
    gamma = try weights.tensor("gamma", shape).reshaped([channels])
    // sqrt(C) / |x| is 1 / sqrt(mean(x^2)). The reference adds nothing to it, but divides by 1e-12 where |x| is
    // less; this is that bound, in the mean of the squares.
    epsilon = 1e-24 / Float(channels)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) { try x.rmsNorm(gamma, epsilon: epsilon) }
  }
}

/// Two normalised causal 3x3x3 convolutions beside a shortcut.
struct WanResnetBlock: Sendable {
  let norm1: WanNormalization
  let conv1: Convolution3D
  let norm2: WanNormalization
  let conv2: Convolution3D
  let shortcut: Convolution3D?
  let path: String

  init(_ weights: Weights, inputs: Int, outputs: Int) throws {
    path = weights.layerPath
    norm1 = try WanNormalization(weights["norm1"], channels: inputs)
    conv1 = try Convolution3D(weights["conv1"], inputs: inputs, outputs: outputs, frames: 3, kernel: 3)
    norm2 = try WanNormalization(weights["norm2"], channels: outputs)
    conv2 = try Convolution3D(weights["conv2"], inputs: outputs, outputs: outputs, frames: 3, kernel: 3)
    shortcut =
      inputs == outputs
      ? nil
      : try Convolution3D(weights["conv_shortcut"], inputs: inputs, outputs: outputs, frames: 1, kernel: 1)
  }

  func callAsFunction(_ x: Tensor, history: inout FrameHistory) throws -> Tensor {
    try layer(path) {
      let h = try conv1(norm1(x).silu(), history: &history)
      let identity = try shortcut?(x) ?? x
      return try conv2(norm2(h).silu(), history: &history, residual: identity)
    }
  }
}

/// Attention over all pixels of a frame with one head.
struct WanAttention: Sendable {
  let norm: WanNormalization
  /// Query, key and value.
  let inputs: [(weight: Weight, bias: Tensor)]
  let output: Linear
  let path: String

  /// Loads `to_qkv`, three projections in one weight, and `proj`, as 1x1 convolutions.
  init(_ weights: Weights, channels: Int) throws {
    path = weights.layerPath
    norm = try WanNormalization(weights["norm"], channels: channels, axes: 2)
    let joined = weights["to_qkv"]
    let weight = try joined.tensor("weight", [3 * channels, channels, 1, 1]).reshaped([
      3 * channels, channels,
    ])
    let bias = try joined.tensor("bias", [3 * channels])
    inputs = try layer(joined.layerPath) {
      try (0..<3).map {
        let rows = $0 * channels..<($0 + 1) * channels
        return (try Weight(linear: weight.rows(rows)), try bias.rows(rows))
      }
    }
    output = try Linear(weights["proj"], inputs: channels, outputs: channels)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let pixels = try x.reshaped([x.shape[0], x.shape[1] * x.shape[2], x.shape[3]])
      let normed = try norm(pixels)
      let parts = try inputs.map { try normed.matmul($0.weight, bias: $0.bias) }
      let mixed = try parts[0].attention(keys: parts[1], values: parts[2], heads: 1)
      return try output(mixed, residual: pixels).reshaped(x.shape)
    }
  }
}

/// The middle of the autoencoder: a ResNet block, attention, a ResNet block.
struct WanMidBlock: Sendable {
  let resnet1: WanResnetBlock
  let attention: WanAttention
  let resnet2: WanResnetBlock

  init(_ weights: Weights, channels: Int) throws {
    resnet1 = try WanResnetBlock(weights["resnets"][0], inputs: channels, outputs: channels)
    attention = try WanAttention(weights["attentions"][0], channels: channels)
    resnet2 = try WanResnetBlock(weights["resnets"][1], inputs: channels, outputs: channels)
  }

  func callAsFunction(_ x: Tensor, history: inout FrameHistory) throws -> Tensor {
    try resnet2(attention(resnet1(x, history: &history)), history: &history)
  }
}

/// Halves height and width, and where there is a `time_conv` the number of frames, except that a video's first
/// frame stays one.
struct WanDownsample: Sendable {
  let conv: Convolution
  let timeConv: Convolution3D?

  init(_ weights: Weights, channels: Int, temporal: Bool) throws {
    conv = try Convolution(
      weights["resample"][1], inputs: channels, outputs: channels, kernel: 3, stride: 2,
      padding: Padding2D(top: 0, left: 0, bottom: 1, right: 1))
    timeConv =
      temporal
      ? try Convolution3D(weights["time_conv"], inputs: channels, outputs: channels, frames: 3, kernel: 1)
      : nil
  }

  func callAsFunction(_ x: Tensor, history: inout FrameHistory) throws -> Tensor {
    let h = try conv(x)
    guard let timeConv else { return h }
    let past = history.frames(of: timeConv.path)
    try history.append(h, keeping: 1, of: timeConv.path)
    if past.isEmpty { return h }
    let frames = try past + (0..<h.shape[0]).map { try h.rows($0..<$0 + 1) }
    // Every second window of three frames, the first beginning with the last frame of the chunk before.
    let pairs = try stride(from: 0, to: h.shape[0] - 1, by: 2).map {
      try timeConv(frames[$0 + 2], after: [frames[$0], frames[$0 + 1]])
    }
    return try layer(timeConv.path) { try Tensor.concatenated(pairs, axis: 0) }
  }
}

/// Doubles height and width and halves the channels; where there is a `time_conv`, also doubles the number of
/// frames after a video's first chunk.
struct WanUpsample: Sendable {
  let conv: Convolution
  let timeConv: Convolution3D?
  let path: String

  init(_ weights: Weights, channels: Int, temporal: Bool) throws {
    path = weights.layerPath
    conv = try Convolution(weights["resample"][1], inputs: channels, outputs: channels / 2, kernel: 3)
    timeConv =
      temporal
      ? try Convolution3D(weights["time_conv"], inputs: channels, outputs: 2 * channels, frames: 3, kernel: 1)
      : nil
  }

  func callAsFunction(_ x: Tensor, history: inout FrameHistory) throws -> Tensor {
    try layer(path) {
      var h = x
      // The first frame is not doubled, nor does what follows see it here.
      if let timeConv, history.chunk > 0 {
        // The halves of the channels are two frames.
        let (frames, pixels, channels) = (x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
        h = try timeConv(x, history: &history).reshaped([frames, pixels, 2, channels])
          .transposed([0, 2, 1, 3]).reshaped([2 * frames, x.shape[1], x.shape[2], channels])
      }
      return try conv(h.upsampledNearest(2))
    }
  }
}
