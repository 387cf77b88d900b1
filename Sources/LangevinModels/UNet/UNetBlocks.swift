import LangevinNN
import LangevinTensor

/// What one resolution of a UNet is made of.
struct UNetBlockShape: Sendable, Hashable {
  /// How height and width change, and what changes them.
  enum Resize: Sendable, Hashable {
    case convolution
    case resnet
  }

  var layers: Int
  var timeChannels: Int
  /// The time scales and shifts, rather than only shifts.
  var scalesByTime = false
  var groups: Int
  var epsilon: Float
  /// One a layer, or none at all.
  var attentions: [UNetAttention.Shape] = []
  /// Nil where the size stays.
  var resize: Resize?
  /// Of the convolution on the way down; 0 means one row below and one column to the right.
  var downsamplePadding = 1

  fileprivate func resnet(_ weights: Weights, inputs: Int, outputs: Int, resize: ResnetBlock2D.Resize? = nil)
    throws -> ResnetBlock2D
  {
    try ResnetBlock2D(
      weights, inputs: inputs, outputs: outputs, timeChannels: timeChannels, scalesByTime: scalesByTime,
      resize: resize, groups: groups, epsilon: epsilon)
  }

  fileprivate func attentionLayers(_ weights: Weights) throws -> [UNetAttention] {
    precondition(attentions.isEmpty || attentions.count == layers)
    return try attentions.enumerated().map { try UNetAttention(weights["attentions"][$0.offset], $0.element) }
  }
}

/// What halves or doubles the size at the end of a block.
enum UNetResizeLayer: Sendable {
  case down(Downsample2D)
  case up(Upsample2D)
  case resnet(ResnetBlock2D)

  /// x [N, H, W, C] -> [N, H', W', C].
  func callAsFunction(_ x: Tensor, time: Tensor) throws -> Tensor {
    switch self {
    case .down(let downsample): try downsample(x)
    case .up(let upsample): try upsample(x)
    case .resnet(let block): try block(x, time: time)
    }
  }
}

/// A level on the way down, with any kind of attention or none.
struct UNetDownBlock: Sendable {
  let resnets: [ResnetBlock2D]
  let attentions: [UNetAttention]
  let downsample: UNetResizeLayer?
  let path: String
  let recomputes: Bool

  init(_ weights: Weights, _ shape: UNetBlockShape, inputs: Int, outputs: Int) throws {
    path = weights.layerPath
    recomputes = weights.recomputes
    resnets = try (0..<shape.layers).map {
      try shape.resnet(weights["resnets"][$0], inputs: $0 == 0 ? inputs : outputs, outputs: outputs)
    }
    attentions = try shape.attentionLayers(weights)
    let sampler = weights["downsamplers"][0]
    downsample = try shape.resize.map {
      switch $0 {
      case .convolution:
        .down(try Downsample2D(sampler, channels: outputs, padding: shape.downsamplePadding))
      case .resnet:
        .resnet(try shape.resnet(sampler, inputs: outputs, outputs: outputs, resize: .halve))
      }
    }
  }

  /// x [N, H, W, inputs] -> [N, H', W', outputs]; every layer's output is appended to `skips`.
  ///
  /// `residual` is added to the last layer's output where the block has transformers, else to the block's,
  /// and to the skip of that name: where diffusers adds a T2I-Adapter's features. Once there are `count` skips, nothing
  /// else is computed.
  func callAsFunction(
    _ x: Tensor, time: Tensor, context: UNetContext?, skips: inout [Tensor], residual: Tensor? = nil,
    upTo count: Int? = nil
  ) throws -> Tensor {
    try layer(path) {
      var h = x
      for (i, resnet) in resnets.enumerated() {
        if skips.count == count { return h }
        let attention = attentions.isEmpty ? nil : attentions[i]
        h = try h.recomputing(if: recomputes) { h in
          let h = try resnet(h, time: time)
          return try attention?(h, context: context) ?? h
        }
        if let residual, hasTransformers, i == resnets.count - 1 { h = try h + residual }
        skips.append(h)
      }
      if let downsample {
        if skips.count == count { return h }
        h = try downsample(h, time: time)
        skips.append(h)
      }
      if let residual, !hasTransformers {
        h = try h + residual
        skips[skips.count - 1] = h
      }
      return h
    }
  }

  private var hasTransformers: Bool { if case .transformer? = attentions.last { true } else { false } }
}

/// The smallest pictures' level: a ResNet block, then for each layer attention and another ResNet block.
struct UNetMidBlock: Sendable {
  let resnets: [ResnetBlock2D]
  let attentions: [UNetAttention]
  let path: String
  let recomputes: Bool

  init(_ weights: Weights, _ shape: UNetBlockShape, channels: Int) throws {
    path = weights.layerPath
    recomputes = weights.recomputes
    resnets = try (0...shape.layers).map {
      try shape.resnet(weights["resnets"][$0], inputs: channels, outputs: channels)
    }
    attentions = try shape.attentionLayers(weights)
  }

  /// [N, H, W, C] -> [N, H, W, C].
  func callAsFunction(_ x: Tensor, time: Tensor, context: UNetContext?) throws -> Tensor {
    try layer(path) {
      var h = try x.recomputing(if: recomputes) { [resnets] x in try resnets[0](x, time: time) }
      for (i, resnet) in resnets.dropFirst().enumerated() {
        let attention = attentions.isEmpty ? nil : attentions[i]
        h = try h.recomputing(if: recomputes) { h in
          try resnet(attention?(h, context: context) ?? h, time: time)
        }
      }
      return h
    }
  }
}

/// A level on the way up, with any kind of attention or none.
struct UNetUpBlock: Sendable {
  let resnets: [ResnetBlock2D]
  let attentions: [UNetAttention]
  let upsample: UNetResizeLayer?
  let path: String
  let recomputes: Bool

  /// `inputs` come from below; `skips` are the channels of the skip tensors in the order of use.
  init(_ weights: Weights, _ shape: UNetBlockShape, inputs: Int, skips: [Int], outputs: Int) throws {
    path = weights.layerPath
    recomputes = weights.recomputes
    resnets = try (0..<shape.layers).map {
      try shape.resnet(
        weights["resnets"][$0], inputs: ($0 == 0 ? inputs : outputs) + skips[$0], outputs: outputs)
    }
    attentions = try shape.attentionLayers(weights)
    let sampler = weights["upsamplers"][0]
    upsample = try shape.resize.map {
      switch $0 {
      case .convolution: .up(try Upsample2D(sampler, channels: outputs))
      case .resnet:
        .resnet(try shape.resnet(sampler, inputs: outputs, outputs: outputs, resize: .double))
      }
    }
  }

  /// x [N, H, W, inputs] -> [N, H', W', outputs]; takes one tensor a layer off the end of `skips`.
  ///
  /// Layers before `first` are left out. What goes into the layer of the branch of `deep` is kept, or was.
  func callAsFunction(
    _ x: Tensor, time: Tensor, context: UNetContext?, skips: inout [Tensor], from first: Int = 0,
    deep: DeepFeatures? = nil
  ) throws -> Tensor {
    try layer(path) {
      var h = x
      for (i, resnet) in resnets.enumerated().dropFirst(first) {
        if let deep, skips.count == deep.branch + 1 { h = try deep(h) }
        let (skip, attention) = (skips.removeLast(), attentions.isEmpty ? nil : attentions[i])
        h = try h.recomputing(if: recomputes) { h in
          let h = try resnet(.concatenated([h, skip], axis: -1), time: time)
          return try attention?(h, context: context) ?? h
        }
      }
      return try upsample?(h, time: time) ?? h
    }
  }
}
