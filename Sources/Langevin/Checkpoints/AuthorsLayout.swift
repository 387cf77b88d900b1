import LangevinTensor

/// A transformer's tensors under the names of its authors' implementation, as ComfyUI-GGUF and stable-diffusion.cpp write
/// them too.
protocol AuthorsLayout {
  /// Whose transformer, for messages.
  static var title: String { get }
  /// A key that every such file has.
  static var key: String { get }
  /// A name that every file under diffusers' names has.
  static var diffusersName: String { get }
  /// diffusers' names with the file's places.
  var table: PlaceTable { get }
  /// What tells the model's own transformer from another's.
  var summary: String { get }

  /// The same of a file. Throws `CheckpointError.missingTensor`, `.malformed`.
  func summary(of file: any TensorFile, prefix: String) throws -> String
}

extension TensorFile {
  /// How many blocks of a kind there are, by a key of each.
  func count(_ key: (_ block: Int) -> String) -> Int {
    var count = 0
    while shape(of: key(count)) != nil { count += 1 }
    return count
  }
}

/// Names with the places of a file, as they are listed.
struct PlaceTable {
  private(set) var rows: [(name: String, place: RenamedWeights.Place)] = []

  mutating func tensor(_ name: String, _ key: String, _ shape: Shape? = nil) {
    rows.append((name, RenamedWeights.Place(key: key, shape: shape)))
  }

  /// Weight and bias.
  mutating func layer(
    _ name: String, _ key: String, _ part: RenamedWeights.Part? = nil, swapsHalves: Bool = false
  ) {
    for kind in ["weight", "bias"] {
      let place = RenamedWeights.Place(key: "\(key).\(kind)", part: part, swapsHalves: swapsHalves)
      rows.append(("\(name).\(kind)", place))
    }
  }

  /// Query, key and value, which the file has as one.
  mutating func heads(_ names: [String], _ key: String) {
    for (third, name) in names.enumerated() { layer(name, key, .third(third)) }
  }
}
