import LangevinNN
import LangevinTensor

/// What one resolution of a UNet is made of.
struct UNetBlockShape: Sendable, Hashable {
  var layers: Int
  var timeChannels: Int
  var groups: Int
  var epsilon: Float
  /// Nil in blocks without attention.
  var attention: Transformer2D.Shape?
}

/// `DownBlock2D` and `CrossAttnDownBlock2D`.
struct UNetDownBlock: Sendable {
  let resnets: [ResnetBlock2D]
  let attentions: [Transformer2D]
  let downsample: Downsample2D?
  let path: String

  /// `downsamplePadding` is nil in the last block, which keeps its size.
  init(_ weights: Weights, _ shape: UNetBlockShape, inputs: Int, outputs: Int, downsamplePadding: Int?) throws
  {
    path = weights.layerPath
    resnets = try (0..<shape.layers).map {
      try ResnetBlock2D(
        weights["resnets"][$0], inputs: $0 == 0 ? inputs : outputs, outputs: outputs,
        timeChannels: shape.timeChannels, groups: shape.groups, epsilon: shape.epsilon)
    }
    attentions =
      try shape.attention.map { attention in
        try (0..<shape.layers).map { try Transformer2D(weights["attentions"][$0], attention) }
      } ?? []
    downsample = try downsamplePadding.map {
      try Downsample2D(weights["downsamplers"][0], channels: outputs, padding: $0)
    }
  }

  /// x [N, H, W, inputs] -> [N, H', W', outputs]; every layer's output is appended to `skips`.
  func callAsFunction(_ x: Tensor, time: Tensor, context: Tensor, skips: inout [Tensor]) throws -> Tensor {
    try layer(path) {
      var h = x
      for (i, resnet) in resnets.enumerated() {
        h = try resnet(h, time: time)
        if !attentions.isEmpty { h = try attentions[i](h, context: context) }
        skips.append(h)
      }
      if let downsample {
        h = try downsample(h)
        skips.append(h)
      }
      return h
    }
  }
}

/// `UNetMidBlock2DCrossAttn`.
struct UNetMidBlock: Sendable {
  let resnet1: ResnetBlock2D
  let attention: Transformer2D
  let resnet2: ResnetBlock2D
  let path: String

  /// `attention` gives the channels.
  init(_ weights: Weights, _ shape: UNetBlockShape, attention: Transformer2D.Shape) throws {
    func resnet(_ index: Int) throws -> ResnetBlock2D {
      try ResnetBlock2D(
        weights["resnets"][index], inputs: attention.channels, outputs: attention.channels,
        timeChannels: shape.timeChannels, groups: shape.groups, epsilon: shape.epsilon)
    }
    path = weights.layerPath
    resnet1 = try resnet(0)
    self.attention = try Transformer2D(weights["attentions"][0], attention)
    resnet2 = try resnet(1)
  }

  /// [N, H, W, C] -> [N, H, W, C].
  func callAsFunction(_ x: Tensor, time: Tensor, context: Tensor) throws -> Tensor {
    try layer(path) { try resnet2(attention(resnet1(x, time: time), context: context), time: time) }
  }
}

/// `UpBlock2D` and `CrossAttnUpBlock2D`.
struct UNetUpBlock: Sendable {
  let resnets: [ResnetBlock2D]
  let attentions: [Transformer2D]
  let upsample: Upsample2D?
  let path: String

  /// `inputs` come from below; `skips` are the channels of the skip tensors in the order of use.
  init(
    _ weights: Weights, _ shape: UNetBlockShape, inputs: Int, skips: [Int], outputs: Int, upsamples: Bool
  ) throws {
    path = weights.layerPath
    resnets = try (0..<shape.layers).map {
      try ResnetBlock2D(
        weights["resnets"][$0], inputs: ($0 == 0 ? inputs : outputs) + skips[$0], outputs: outputs,
        timeChannels: shape.timeChannels, groups: shape.groups, epsilon: shape.epsilon)
    }
    attentions =
      try shape.attention.map { attention in
        try (0..<shape.layers).map { try Transformer2D(weights["attentions"][$0], attention) }
      } ?? []
    upsample = upsamples ? try Upsample2D(weights["upsamplers"][0], channels: outputs) : nil
  }

  /// x [N, H, W, inputs] -> [N, H', W', outputs]; takes one tensor a layer off the end of `skips`.
  func callAsFunction(_ x: Tensor, time: Tensor, context: Tensor, skips: inout [Tensor]) throws -> Tensor {
    try layer(path) {
      var h = x
      for (i, resnet) in resnets.enumerated() {
        h = try Tensor.concatenated([h, skips.removeLast()], axis: -1)
        h = try resnet(h, time: time)
        if !attentions.isEmpty { h = try attentions[i](h, context: context) }
      }
      return try upsample?(h) ?? h
    }
  }
}
