/// The networks of one pipeline that stay loaded from one run to the next, for whoever draws again and again.
///
/// Networks that a request brings along, such as control networks, are not kept. Not for two runs at once, nor for
/// the runs of two pipelines.
public final class KeptNetworks {
  private var networks: [String: Any] = [:]

  /// Nothing is loaded yet.
  public init() {}

  /// What is loaded, as `GenerationProgress.loading` calls it, sorted.
  public var names: [String] { networks.keys.sorted() }

  /// The network of this name, which `load` makes where it is not there.
  func network<Model>(_ name: String, _ load: () throws -> Model) rethrows -> Model {
    if let kept = networks[name] as? Model { return kept }
    let loaded = try load()
    networks[name] = loaded
    return loaded
  }
}
