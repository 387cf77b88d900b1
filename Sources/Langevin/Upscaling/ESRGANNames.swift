import LangevinNN

/// The names that ESRGAN's first program gave its tensors, as many networks are still stored that were trained
/// with it: the layers by their place in a list.
enum ESRGANNames {
  /// The layers of an enlargement by 4 that stand outside the trunk; between them come activations.
  private static let layers = [
    "0": "conv_first", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last",
  ]

  /// The tensors of a file under BasicSR's names, or the file itself where it has those already.
  ///
  /// What has no name there keeps its own, and is then found to be of no use.
  static func source(_ file: SafetensorsFile) throws -> any WeightSource {
    let names = Set(file.names)
    guard names.contains("model.1.sub.0.RDB1.conv1.0.weight") else { return file }
    let table = file.names.map { key in
      let name = translated(key).flatMap { names.contains($0) ? nil : $0 } ?? key
      return (name: name, place: RenamedWeights.Place(key: key))
    }
    guard Set(table.map(\.name)).count == table.count else { return file }
    return try RenamedWeights(table, in: file)
  }

  private static func translated(_ key: String) -> String? {
    if let match = key.wholeMatch(of: /model\.1\.sub\.(\d+)\.RDB([123])\.conv([1-5])\.0\.(weight|bias)/) {
      return "body.\(match.1).rdb\(match.2).conv\(match.3).\(match.4)"
    }
    if let match = key.wholeMatch(of: /model\.1\.sub\.\d+\.(weight|bias)/) { return "conv_body.\(match.1)" }
    guard let match = key.wholeMatch(of: /model\.(\d+)\.(weight|bias)/) else { return nil }
    return layers[String(match.1)].map { "\($0).\(match.2)" }
  }
}
