import LangevinNN
import LangevinTensor

extension Checkpoint {
  /// The same with low-rank changes of its networks' layers, each times its scale: W + scale (alpha / rank) B
  /// A of a LoRA, merged in float32 as a network is loaded.
  ///
  /// A weight that a file has in blocks keeps them, and the product with the small matrices is added to its
  /// own at each step; `layersMadeDense` tells which changes do not allow that.
  ///
  /// Throws `AdapterError.unmatched` where a file's tensors find no layer in this model, `.wrongShape` where
  /// the layer has another shape, and what opening the components throws.
  public func merging(_ loras: [(file: LoRAFile, scale: Float)]) throws -> Checkpoint {
    var names: [String: LayerNames] = [:]
    var changes: [String: [String: [MergedWeights.Change]]] = [:]
    for (lora, scale) in loras {
      var unmatched: [String] = []
      for change in lora.changes {
        guard let layer = try layer(change.target, &names) else {
          unmatched += change.names
          continue
        }
        changes[change.target.component, default: [:]]["\(layer).weight", default: []].append((change, scale))
      }
      guard unmatched.isEmpty else {
        throw AdapterError.unmatched(path: lora.url.path, names: unmatched, total: lora.tensorCount)
      }
    }
    var components: [String: Component] = [:]
    for (name, changes) in changes {
      let component = try component(name)
      components[name] = Component(
        component.className, config: component.config,
        // T5's perceptrons read their matrices themselves.
        weights: try MergedWeights(
          component.weights, changes, takesAdapters: !component.className.hasSuffix("T5EncoderModel")))
    }
    return replacing(components: components)
  }

  /// How many layers of this model are in blocks in their files and dense since a merging changed them, and
  /// by which kinds of changes, sorted: `LoHa`, `DoRA of LoRA`. Throws as `component` does.
  public func layersMadeDense() throws -> (count: Int, kinds: [String]) {
    let dense = try networks.flatMap { (try component($0).weights as? MergedWeights)?.dense ?? [] }
    return (dense.count, dense.reduce(into: Set()) { $0.formUnion($1.kinds) }.sorted())
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
