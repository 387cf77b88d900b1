extension StrictJSON {
  /// For people to read and edit: a member or element a line, two spaces a level. Short arrays of numbers and words
  /// stay on one line.
  public var indentedText: String { indented("") }

  private func indented(_ margin: String) -> String {
    let inner = margin + "  "
    switch self {
    case .object(let members) where !members.isEmpty:
      let lines = members.map { member in
        "\(inner)\(StrictJSON.string(member.key).text): \(member.value.indented(inner))"
      }
      return "{\n" + lines.joined(separator: ",\n") + "\n\(margin)}"
    case .array(let values) where !values.isEmpty:
      let line = "[" + values.map(\.text).joined(separator: ", ") + "]"
      if line.count <= 80, values.allSatisfy(\.isLeaf) { return line }
      return "[\n" + values.map { inner + $0.indented(inner) }.joined(separator: ",\n") + "\n\(margin)]"
    default: return text
    }
  }

  private var isLeaf: Bool {
    switch self {
    case .array, .object: false
    default: true
    }
  }
}
