import LangevinNN
import LangevinTensor

/// Two normalised 3x3 convolutions beside a shortcut; the time embedding enters between them.
struct ResnetBlock2D: Sendable {
  /// Of height and width, before the first convolution and on the shortcut.
  enum Resize: Sendable, Hashable {
    /// Means of two by two pixels.
    case halve
    /// Every pixel four times.
    case double
  }

  let norm1: GroupNormalization
  let conv1: Convolution
  let timeProjection: Linear?
  let scalesByTime: Bool
  let norm2: GroupNormalization
  let conv2: Convolution
  let shortcut: Convolution?
  let resize: Resize?
  let path: String

  /// `timeChannels` is nil in autoencoders. Where the time `scales`, the second norm's output is scaled and shifted
  /// by it (arXiv:2102.09672, section 3); else it is added to the first convolution's.
  init(
    _ weights: Weights, inputs: Int, outputs: Int, timeChannels: Int? = nil, scalesByTime: Bool = false,
    resize: Resize? = nil, groups: Int, epsilon: Float
  ) throws {
    path = weights.layerPath
    norm1 = try GroupNormalization(weights["norm1"], channels: inputs, groups: groups, epsilon: epsilon)
    conv1 = try Convolution(weights["conv1"], inputs: inputs, outputs: outputs, kernel: 3)
    timeProjection = try timeChannels.map {
      try Linear(weights["time_emb_proj"], inputs: $0, outputs: scalesByTime ? 2 * outputs : outputs)
    }
    self.scalesByTime = scalesByTime
    norm2 = try GroupNormalization(weights["norm2"], channels: outputs, groups: groups, epsilon: epsilon)
    conv2 = try Convolution(weights["conv2"], inputs: outputs, outputs: outputs, kernel: 3)
    shortcut =
      inputs == outputs
      ? nil : try Convolution(weights["conv_shortcut"], inputs: inputs, outputs: outputs, kernel: 1)
    self.resize = resize
  }

  /// x [N, H, W, inputs], time [N, timeChannels] with SiLU already applied -> [N, H', W', outputs].
  ///
  /// With `statistics`, x is a tile of a picture.
  func callAsFunction(_ x: Tensor, time: Tensor? = nil, statistics: GroupStatistics? = nil) throws -> Tensor {
    precondition((time == nil) == (timeProjection == nil))
    return try layer(path) {
      let projected = try timeProjection.flatMap { projection in try time.map { try projection($0) } }
      let x1 = try resized(norm1(x, activation: .silu, statistics: statistics))
      let h: Tensor
      if scalesByTime, let projected {
        h = try modulated(norm2(conv1(x1), statistics: statistics), by: projected).silu()
      } else {
        h = try norm2(conv1(x1, perImage: projected), activation: .silu, statistics: statistics)
      }
      let kept = try resized(x)
      return try conv2(h, residual: shortcut?(kept) ?? kept)
    }
  }

  /// factors [N, 2 outputs]: scale, then shift.
  private func modulated(_ h: Tensor, by factors: Tensor) throws -> Tensor {
    let channels = h.shape[3]
    let perImage: Shape = [h.shape[0], 1, 1, channels]
    let scale = try factors.sliced(0..<channels, axis: 1).reshaped(perImage) + 1
    let shift = try factors.sliced(channels..<2 * channels, axis: 1).reshaped(perImage)
    return try h * scale + shift
  }

  private func resized(_ x: Tensor) throws -> Tensor {
    switch resize {
    case nil: return x
    case .double: return try x.upsampledNearest(2)
    case .halve: return try x.halved()
    }
  }
}

extension Tensor {
  /// Means of two by two pixels: [N, 2 H, 2 W, C] -> [N, H, W, C].
  func halved() throws -> Tensor {
    let (n, h, w, c) = (shape[0], shape[1] / 2, shape[2] / 2, shape[3])
    return try reshaped([n, h, 2, w, 2, c]).reduced(.mean, axes: [2, 4]).reshaped([n, h, w, c])
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
