import Foundation

/// What made a picture, as a PNG text of the keyword `parameters`, in the convention of A1111's web UI.
///
/// ```
/// prompt
/// Negative prompt: …
/// Steps: 30, Sampler: DDIM, CFG scale: 7.5, Seed: 1, Size: 512x512, Model: name
/// ```
public struct PictureParameters: Sendable, Equatable, CustomStringConvertible {
  /// The keyword of the PNG text that holds the parameters.
  public static let keyword = "parameters"

  /// One setting, such as `Steps: 30`.
  public struct Field: Sendable, Equatable {
    /// As A1111 spells it: `CFG scale`.
    public var name: String
    /// The field's value, without the quotes that it may have in the text.
    public var value: String

    /// A setting of this name and value.
    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  /// May have several lines.
  public var prompt: String
  /// Empty where there is none.
  public var negativePrompt: String
  /// In the order in which they are written; `Steps` comes first.
  public var fields: [Field]

  /// Parameters of these parts.
  public init(prompt: String, negativePrompt: String = "", fields: [Field]) {
    self.prompt = prompt
    self.negativePrompt = negativePrompt
    self.fields = fields
  }

  /// The value of the first field of this name.
  public subscript(name: String) -> String? { fields.first { $0.name == name }?.value }

  /// The text that goes into the file. A prompt that would not be read back from it, as one that has a line which
  /// begins with `Negative prompt:`, is also among the settings, quoted.
  public var description: String {
    let text = joined(fields)
    guard PictureParameters(parsing: text) != self else { return text }
    return joined(
      fields + [Field(Self.exactPrompt, prompt), Field(Self.exactNegativePrompt, negativePrompt)])
  }

  private static let exactPrompt = "Prompt"
  private static let exactNegativePrompt = "Exact negative prompt"
  private static let negativeMarker = "Negative prompt: "

  private func joined(_ fields: [Field]) -> String {
    let negative = negativePrompt.isEmpty ? "" : "\n\(Self.negativeMarker)\(negativePrompt)"
    let settings = fields.map { "\($0.name): \(Self.quoted($0.value))" }.joined(separator: ", ")
    return "\(prompt)\(negative)\n\(settings)"
  }

  /// Values that would not be read back as they are, such as those with separators in them, are quoted as JSON strings.
  private static func quoted(_ value: String) -> String {
    let scalars = value.unicodeScalars
    let isPlain =
      !scalars.contains { ",:\n\"".unicodeScalars.contains($0) } && scalars.first != " "
      && scalars.last != " "
      && !scalars.isEmpty
    guard !isPlain else { return value }
    var result = String.UnicodeScalarView("\"".unicodeScalars)
    for scalar in scalars {
      switch scalar {
      case "\"", "\\": result += ["\\", scalar]
      case "\n": result += ["\\", "n"]
      default: result.append(scalar)
      }
    }
    return String(result) + "\""
  }

  /// Reads the text back: the last line has the settings, a line that begins with `Negative prompt:` begins
  /// the negative prompt, and the rest is the prompt.
  ///
  /// By scalars: in a `Character` a separator can be joined with what follows it.
  public init(parsing text: String) {
    var lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
    fields = []
    if let last = lines.last, last.starts(with: "Steps: ".unicodeScalars) {
      lines.removeLast()
      fields = Self.fields(of: last)
    }
    let marker = Self.negativeMarker.unicodeScalars
    let start = lines.firstIndex { $0.starts(with: marker) } ?? lines.endIndex
    prompt = String(String.UnicodeScalarView(lines[..<start].joined(separator: "\n".unicodeScalars)))
    negativePrompt = String(
      String.UnicodeScalarView(lines[start...].joined(separator: "\n".unicodeScalars).dropFirst(marker.count))
    )
    guard let exact = self[Self.exactPrompt], let exactNegative = self[Self.exactNegativePrompt] else {
      return
    }
    (prompt, negativePrompt) = (exact, exactNegative)
    fields.removeAll { [Self.exactPrompt, Self.exactNegativePrompt].contains($0.name) }
  }

  private static func fields(of line: Substring.UnicodeScalarView) -> [Field] {
    var result: [Field] = []
    var rest = line
    while let colon = rest.firstIndex(of: ":") {
      let name = String(rest[..<colon]).trimmingCharacters(in: .whitespaces)
      rest = rest[rest.index(after: colon)...].drop { $0 == " " }
      var value = String.UnicodeScalarView()
      if rest.first == "\"" {
        var escaped = false
        rest = rest.dropFirst()
        while let scalar = rest.popFirst() {
          if escaped {
            value.append(scalar == "n" ? "\n" : scalar)
            escaped = false
          } else if scalar == "\\" {
            escaped = true
          } else if scalar == "\"" {
            break
          } else {
            value.append(scalar)
          }
        }
      } else {
        let plain = rest.prefix { $0 != "," }
        value.append(contentsOf: plain)
        rest = rest[plain.endIndex...]
      }
      result.append(Field(name, String(value)))
      rest = rest.drop { $0 == "," || $0 == " " }
    }
    return result
  }
}
