import LangevinNN
import LangevinTensor

/// Two normalised 3x3 convolutions beside a shortcut; the time embedding enters between them.
struct ResnetBlock2D: Sendable {
  let norm1: GroupNormalization
  let conv1: Convolution
  let timeProjection: Linear?
  let norm2: GroupNormalization
  let conv2: Convolution
  let shortcut: Convolution?
  let path: String

  /// `timeChannels` is nil in autoencoders.
  init(
    _ weights: Weights, inputs: Int, outputs: Int, timeChannels: Int? = nil, groups: Int, epsilon: Float
  ) throws {
    path = weights.layerPath
    norm1 = try GroupNormalization(weights["norm1"], channels: inputs, groups: groups, epsilon: epsilon)
    conv1 = try Convolution(weights["conv1"], inputs: inputs, outputs: outputs, kernel: 3)
    timeProjection = try timeChannels.map {
      try Linear(weights["time_emb_proj"], inputs: $0, outputs: outputs)
    }
    norm2 = try GroupNormalization(weights["norm2"], channels: outputs, groups: groups, epsilon: epsilon)
    conv2 = try Convolution(weights["conv2"], inputs: outputs, outputs: outputs, kernel: 3)
    shortcut =
      inputs == outputs
      ? nil : try Convolution(weights["conv_shortcut"], inputs: inputs, outputs: outputs, kernel: 1)
  }

  /// x [N, H, W, inputs], time [N, timeChannels] with SiLU already applied -> [N, H, W, outputs].
  func callAsFunction(_ x: Tensor, time: Tensor? = nil, statistics: GroupStatistics? = nil) throws -> Tensor {
    precondition((time == nil) == (timeProjection == nil))
    return try layer(path) {
      let shift = try timeProjection.flatMap { projection in try time.map { try projection($0) } }
      let h = try conv1(norm1(x, activation: .silu, statistics: statistics), perImage: shift)
      return try conv2(
        norm2(h, activation: .silu, statistics: statistics), residual: shortcut?(x) ?? x)
    }
  }
}

/// Halves height and width by a 3x3 convolution of stride 2.
struct Downsample2D: Sendable {
  let conv: Convolution

  /// A padding of 0 means one row of zeros below and one column to the right, as the reference has it.
  init(_ weights: Weights, channels: Int, padding: Int) throws {
    let sides = padding == 0 ? Padding2D(top: 0, left: 0, bottom: 1, right: 1) : Padding2D(padding)
    conv = try Convolution(
      weights["conv"], inputs: channels, outputs: channels, kernel: 3, stride: 2, padding: sides)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor { try conv(x) }
}

/// Doubles height and width by repeating pixels, then a 3x3 convolution.
struct Upsample2D: Sendable {
  let conv: Convolution
  let path: String

  init(_ weights: Weights, channels: Int) throws {
    path = weights.layerPath
    conv = try Convolution(weights["conv"], inputs: channels, outputs: channels, kernel: 3)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor { try layer(path) { try conv(x.upsampledNearest(2)) } }
}
