import Foundation

/// What made a picture, as a PNG text of the keyword `parameters`, in the convention of A1111's web UI.
///
/// ```
/// prompt
/// Negative prompt: …
/// Steps: 30, Sampler: DDIM, CFG scale: 7.5, Seed: 1, Size: 512x512, Model: name
/// ```
public struct PictureParameters: Sendable, Equatable, CustomStringConvertible {
  /// The PNG keyword.
  public static let keyword = "parameters"

  /// One setting, such as `Steps: 30`.
  public struct Field: Sendable, Equatable {
    /// As A1111 spells it: `CFG scale`.
    public var name: String
    /// Without quotes.
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

  /// The text that goes into the file.
  public var description: String {
    let negative = negativePrompt.isEmpty ? "" : "\nNegative prompt: \(negativePrompt)"
    let settings = fields.map { "\($0.name): \(PictureParameters.quoted($0.value))" }.joined(separator: ", ")
    return "\(prompt)\(negative)\n\(settings)"
  }

  /// Values with separators in them are quoted as JSON strings.
  private static func quoted(_ value: String) -> String {
    guard value.contains(where: { ",:\n\"".contains($0) }) else { return value }
    var result = "\""
    for character in value.unicodeScalars {
      switch character {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(character)
      }
    }
    return result + "\""
  }

  /// Reads the text back: the last line has the settings, a line that begins with `Negative prompt:` begins
  /// the negative prompt, and the rest is the prompt.
  public init(parsing text: String) {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    fields = []
    if let last = lines.last, last.hasPrefix("Steps: ") {
      lines.removeLast()
      fields = PictureParameters.fields(of: last)
    }
    let marker = "Negative prompt: "
    let start = lines.firstIndex { $0.hasPrefix(marker) } ?? lines.endIndex
    prompt = lines[..<start].joined(separator: "\n")
    negativePrompt = String(lines[start...].joined(separator: "\n").dropFirst(marker.count))
  }

  private static func fields(of line: String) -> [Field] {
    var result: [Field] = []
    var rest = Substring(line)
    while let colon = rest.firstIndex(of: ":") {
      let name = rest[..<colon].trimmingCharacters(in: .whitespaces)
      rest = rest[rest.index(after: colon)...].drop { $0 == " " }
      var value = ""
      if rest.first == "\"" {
        var escaped = false
        rest = rest.dropFirst()
        while let character = rest.popFirst() {
          if escaped {
            value.append(character == "n" ? "\n" : character)
            escaped = false
          } else if character == "\\" {
            escaped = true
          } else if character == "\"" {
            break
          } else {
            value.append(character)
          }
        }
      } else {
        value = String(rest.prefix { $0 != "," })
        rest = rest.dropFirst(value.count)
      }
      result.append(Field(name, value))
      rest = rest.drop { $0 == "," || $0 == " " }
    }
    return result
  }
}
