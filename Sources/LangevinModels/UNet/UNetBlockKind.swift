/// What a level of a UNet has beside its ResNet blocks.
public enum UNetBlockKind: Sendable, Hashable, CaseIterable {
  /// Nothing; a convolution changes the size. `DownBlock2D`, `UpBlock2D`.
  case plain
  /// Nothing; a ResNet block changes the size. `ResnetDownsampleBlock2D`, `ResnetUpsampleBlock2D`.
  case resnet
  /// Self-attention over the pixels. `AttnDownBlock2D`, `AttnUpBlock2D`.
  case attention
  /// Transformers that look at the context. `CrossAttnDownBlock2D`, `CrossAttnUpBlock2D`.
  case crossAttention
  /// Pixels that look at the context and each other at once; a ResNet block changes the size.
  /// `SimpleCrossAttnDownBlock2D`, `SimpleCrossAttnUpBlock2D`.
  case simpleCrossAttention

  /// The reference's class on the way down.
  public var downName: String {
    switch self {
    case .plain: "DownBlock2D"
    case .resnet: "ResnetDownsampleBlock2D"
    case .attention: "AttnDownBlock2D"
    case .crossAttention: "CrossAttnDownBlock2D"
    case .simpleCrossAttention: "SimpleCrossAttnDownBlock2D"
    }
  }

  /// The reference's class on the way up.
  public var upName: String {
    switch self {
    case .plain: "UpBlock2D"
    case .resnet: "ResnetUpsampleBlock2D"
    case .attention: "AttnUpBlock2D"
    case .crossAttention: "CrossAttnUpBlock2D"
    case .simpleCrossAttention: "SimpleCrossAttnUpBlock2D"
    }
  }

  /// The kinds that a list of class names asks for; `name` is `\.downName` or `\.upName`.
  ///
  /// Throws `ModelError.unsupported` for a class that is none of `kinds`.
  static func list(
    _ config: ConfigObject, _ key: String, among kinds: [UNetBlockKind], by name: (UNetBlockKind) -> String,
    default fallback: [UNetBlockKind]
  ) throws -> [UNetBlockKind] {
    try config.strings(key, default: fallback.map(name)).map { type in
      // As early diffusers wrote it.
      let plain = type.hasPrefix("UNetRes") ? String(type.dropFirst("UNetRes".count)) : type
      guard let kind = kinds.first(where: { name($0) == plain }) else {
        throw ModelError.unsupported(
          model: config.model, key: key, value: "\"\(type)\"", supported: kinds.map(name))
      }
      return kind
    }
  }
}

/// What is between a UNet's way down and its way up.
public enum UNetMidKind: Sendable, Hashable {
  /// One ResNet block. `UNetMidBlock2D` in a conditional network.
  case resnet
  /// Two ResNet blocks. `UNetMidBlock2D` without `add_attention` in an unconditional one.
  case resnets
  /// Self-attention over the pixels between two ResNet blocks. `UNetMidBlock2D`.
  case attention
  /// A transformer between two ResNet blocks. `UNetMidBlock2DCrossAttn`.
  case crossAttention
  /// Pixels that look at the context and each other at once, between two ResNet blocks.
  /// `UNetMidBlock2DSimpleCrossAttn`.
  case simpleCrossAttention
}

/// How the context is normalised in front of `simpleCrossAttention`'s projections.
public enum UNetContextNorm: String, Sendable, Hashable, CaseIterable {
  /// Each token by itself.
  case layer = "layer_norm"
  /// Groups of channels over all tokens.
  case group = "group_norm"

  /// The reference fixes it; config.json does not have it.
  static let groups = 32
}
