import LangevinNN
import LangevinTensor

extension Checkpoint {
  /// The same with low-rank additions to its networks' layers, each times its scale: W + scale (alpha / rank) B A, merged
  /// in float32 as a network is loaded.
  ///
  /// Throws `AdapterError.unmatched` where a file's tensors find no layer in this model, `WeightError.wrongShape` where
  /// the layer has another shape, and what opening the components throws.
  public func merging(_ loras: [(file: LoRAFile, scale: Float)]) throws -> Checkpoint {
    var names: [String: LayerNames] = [:]
    var additions: [String: [String: [MergedWeights.Addition]]] = [:]
    for (lora, scale) in loras {
      var unmatched: [String] = []
      for pair in lora.pairs {
        guard let layer = try layer(pair.target, &names) else {
          unmatched += [pair.down, pair.up]
          continue
        }
        let addition = MergedWeights.Addition(
          file: lora.file, down: pair.down, up: pair.up, scale: scale * pair.alpha / Float(pair.rank))
        additions[pair.target.component, default: [:]]["\(layer).weight", default: []].append(addition)
      }
      guard unmatched.isEmpty else {
        throw AdapterError.unmatched(path: lora.url.path, names: unmatched, total: lora.pairs.count * 2)
      }
    }
    var components: [String: Component] = [:]
    for (name, additions) in additions {
      let component = try component(name)
      components[name] = Component(
        component.className, config: component.config,
        weights: try MergedWeights(component.weights, additions))
    }
    return replacing(components: components)
  }

  /// The name of a layer in this model; nil where it has no such network or layer.
  func layer(_ target: LoRAKey.Target, _ known: inout [String: LayerNames]) throws -> String? {
    if known[target.component] == nil {
      guard networks.contains(target.component) else { return nil }
      known[target.component] = try LayerNames(component(target.component))
    }
    return known[target.component]?.layer(target)
  }

  /// The components that a LoRA can be of.
  private var networks: [String] {
    ["unet", "text_encoder", "text_encoder_2", "transformer", "prior", "decoder"].filter { contains($0) }
  }
}
