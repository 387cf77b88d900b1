import LangevinModels
import LangevinTensor

/// Finds a network's layers by the names that LoRA files give them.
struct LayerNames {
  /// A text encoder's names may begin with it or not, in the model as in the file.
  static let textPrefix = "text_model."

  /// The layer's name in the model, without `weight`, by its name without `text_model.`.
  private var byName: [String: String] = [:]
  /// By its name with underscores for dots: of the model, and of a UNet the original implementation's.
  private var byFlatName: [String: String] = [:]

  /// Throws `ModelError` for a UNet's configuration that cannot be read.
  init(_ component: Checkpoint.Component) throws {
    for name in component.weights.names where name.hasSuffix(".weight") {
      let layer = String(name.dropLast(".weight".count))
      byName[Self.bare(layer)] = layer
    }
    for (name, layer) in byName { byFlatName[Self.flat(name)] = layer }
    guard component.className == "UNet2DConditionModel" else { return }
    for (name, original) in try Self.originalNames(component) {
      byFlatName[Self.flat(original)] = byName[name]
    }
  }

  /// A UNet's layers in diffusers' names with the original implementation's, which kohya's scripts use for Stable
  /// Diffusion XL. None of an architecture that the original has not.
  static func originalNames(_ component: Checkpoint.Component) throws -> [String: String] {
    guard let unet = SingleFileUNet(try UNet2DConditionConfig(component.configuration)) else { return [:] }
    let weights = unet.table.filter { $0.name.hasSuffix(".weight") }
    return Dictionary(weights.map { (String($0.name.dropLast(7)), String($0.key.dropLast(7))) }) { $1 }
  }

  static func flat(_ name: String) -> String { name.replacing(".", with: "_") }

  private static func bare(_ layer: String) -> String {
    layer.hasPrefix(textPrefix) ? String(layer.dropFirst(textPrefix.count)) : layer
  }

  /// The layer's name in the model; nil where it has none of this name.
  func layer(_ target: LoRAKey.Target) -> String? {
    guard target.isFlat else { return byName[Self.bare(target.layer)] }
    let prefix = Self.flat(Self.textPrefix)
    let name = target.layer.hasPrefix(prefix) ? String(target.layer.dropFirst(prefix.count)) : target.layer
    return byFlatName[name]
  }
}

extension SingleFileUNet {
  /// The same architecture as a configuration has it; nil where the original implementation has no such network.
  init?(_ config: UNet2DConditionConfig) {
    let kinds: Set<UNetBlockKind> = [.plain, .crossAttention]
    guard let layers = config.layersPerBlock.first, Set(config.layersPerBlock).count == 1,
      kinds.isSuperset(of: config.downBlocks + config.upBlocks), config.midBlock == .crossAttention,
      config.upBlocks == config.downBlocks.reversed(), let middle = config.transformerLayers.last?.first
    else { return nil }
    depths = zip(config.downBlocks, config.transformerLayers).map { $0 == .plain ? 0 : $1.first ?? 0 }
    widths = config.blockOutChannels
    layersPerBlock = layers
    midDepth = middle
    (inChannels, outChannels) = (config.inChannels, config.outChannels)
    contextWidth = config.crossAttentionChannels[0]
    isLinear = false
    addedWidth = config.textTime.map { _ in 0 }
  }
}
