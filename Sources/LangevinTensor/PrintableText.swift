/// Text from files, drivers and the command line, made fit for one line on a terminal or in a log.
extension String {
  /// With every character escaped, as JSON does, that a terminal obeys or that breaks or reorders a line: control
  /// characters (C0, DEL, C1), line and paragraph separators, and those that turn the direction of writing.
  package var printable: String {
    guard unicodeScalars.contains(where: \.isUnprintable) else { return self }
    var result = ""
    for scalar in unicodeScalars {
      if scalar.isUnprintable {
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// As a word of a shell's command line that is itself one printable line.
  package var shellQuoted: String {
    let plain = unicodeScalars.allSatisfy {
      $0.isASCII && ($0.properties.isAlphabetic || "0123456789_-./+,:@%=".unicodeScalars.contains($0))
    }
    if plain && !isEmpty { return self }
    guard unicodeScalars.contains(where: \.isUnprintable) else {
      return "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
    var result = "$'"
    for scalar in unicodeScalars {
      if scalar.isUnprintable {
        for byte in String(scalar).utf8 {
          let digits = String(byte, radix: 8)
          result += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
        }
      } else {
        if scalar == "'" || scalar == "\\" { result += "\\" }
        result.unicodeScalars.append(scalar)
      }
    }
    return result + "'"
  }

  /// Without its middle where it is longer than `limit` characters: a line begins with what it is about and ends
  /// with what was expected.
  package func shortened(to limit: Int = 600) -> String {
    let scalars = unicodeScalars
    let count = scalars.count
    guard count > limit else { return self }
    let tail = limit / 3
    return String(scalars.prefix(limit - tail - 3)) + " … " + String(scalars.suffix(tail))
  }
}

extension Unicode.Scalar {
  /// All of them have four hexadecimal digits at most.
  fileprivate var isUnprintable: Bool {
    switch value {
    case 0..<0x20, 0x7F...0x9F, 0x61C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    default: false
    }
  }
}
