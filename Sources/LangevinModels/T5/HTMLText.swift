/// Character references of HTML (`&eacute;`, `&#233;`), as Python's module `html` and ftfy resolve them.
enum HTMLText {
  // MARK: References

  /// By name, with the semicolon where the reference needs one: the table of the HTML standard, section 13.5.
  private static let names: [String: [Unicode.Scalar]] = {
    let lines = String(decoding: PackageResources.html_entities_txt, as: UTF8.self).split(separator: "\n")
    return Dictionary(
      lines.flatMap { line in
        // `amp! 26`: the name is also known without semicolon.
        let parts = line.split(separator: " ")
        let scalars = parts.dropFirst().compactMap { UInt32($0, radix: 16).flatMap(Unicode.Scalar.init) }
        let name = parts[0].hasSuffix("!") ? parts[0].dropLast() : parts[0]
        return (name == parts[0] ? [] : [(String(name), scalars)]) + [(name + ";", scalars)]
      }, uniquingKeysWith: { first, _ in first })
  }()

  /// Names in capitals that HTML does not know, for letters whose names it has in small ones.
  private static let capitals: [String: [Unicode.Scalar]] = {
    var result: [String: [Unicode.Scalar]] = [:]
    for (name, scalars) in names where name.hasSuffix(";") && name == name.lowercased() {
      let reference = Array("&\(name.uppercased())".unicodeScalars)
      guard unescaped(reference) == reference else { continue }
      result[name.uppercased()] = scalars.flatMap { Array($0.properties.uppercaseMapping.unicodeScalars) }
    }
    return result
  }()

  /// Where Windows-1252 has something else than Latin-1.
  static let windows1252: [UInt32: Unicode.Scalar] = {
    let rows: [Unicode.Scalar?] = [
      "€", nil, "‚", "ƒ", "„", "…", "†", "‡", "ˆ", "‰", "Š", "‹", "Œ", nil, "Ž", nil,
      nil, "‘", "’", "“", "”", "•", "–", "—", "˜", "™", "š", "›", "œ", nil, "ž", "Ÿ",
    ]
    return Dictionary(
      uniqueKeysWithValues: zip(UInt32(0x80)..., rows).compactMap { code, scalar in scalar.map { (code, $0) }
      })
  }()

  /// Nil for anything but ASCII, which alone names have.
  private static func named(_ name: ArraySlice<Unicode.Scalar>) -> [Unicode.Scalar]? {
    guard name.allSatisfy(\.isASCII) else { return nil }
    return names[String(String.UnicodeScalarView(name))]
  }

  // MARK: html.unescape

  /// Python's `html.unescape`: also without semicolons, and names that a longer word begins with.
  static func unescaped(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    var position = 0
    while position < text.count {
      guard text[position] == "&", let (length, scalars) = reference(in: text[(position + 1)...]) else {
        result.append(text[position])
        position += 1
        continue
      }
      result += scalars
      position += 1 + length
    }
    return result
  }

  /// Length and meaning of the reference that a text behind `&` begins with.
  private static func reference(in text: ArraySlice<Unicode.Scalar>) -> (Int, [Unicode.Scalar])? {
    if text.first == "#" { return number(in: text) }
    let body = text.prefix(32).prefix { !"\t\n\u{C} <&#;".unicodeScalars.contains($0) }
    guard !body.isEmpty else { return nil }
    let hasEnd = text.dropFirst(body.count).first == ";"
    let whole = text.prefix(body.count + (hasEnd ? 1 : 0))
    if let scalars = named(whole) { return (whole.count, scalars) }
    for count in stride(from: whole.count - 1, to: 1, by: -1) {
      if let scalars = named(whole.prefix(count)) { return (whole.count, scalars + whole.dropFirst(count)) }
    }
    return (whole.count, ["&"] + whole)
  }

  private static func number(in text: ArraySlice<Unicode.Scalar>) -> (Int, [Unicode.Scalar])? {
    func digits(_ rest: ArraySlice<Unicode.Scalar>, radix: UInt32) -> (Int, UInt32)? {
      var (count, value): (Int, UInt32) = (0, 0)
      for scalar in rest {
        guard scalar.isASCII, let digit = Character(scalar).hexDigitValue, digit < radix else { break }
        value = min(value * radix + UInt32(digit), 0x110000)
        count += 1
      }
      return count > 0 ? (count, value) : nil
    }
    let rest = text.dropFirst()
    let isHexadecimal = rest.first == "x" || rest.first == "X"
    let start = isHexadecimal ? 2 : 1
    guard let (count, value) = digits(text.dropFirst(start), radix: isHexadecimal ? 16 : 10) else {
      return nil
    }
    let hasEnd = text.dropFirst(start + count).first == ";"
    return (start + count + (hasEnd ? 1 : 0), character(value))
  }

  /// The HTML standard, section 13.2.5.80: some numbers stand for others, and some for nothing.
  private static func character(_ value: UInt32) -> [Unicode.Scalar] {
    if let scalar = windows1252[value] { return [scalar] }
    switch value {
    case 0: return ["\u{FFFD}"]
    case 0x0D, 0x81, 0x8D, 0x8F, 0x90, 0x9D: break
    case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F...0x9F, 0xFDD0...0xFDEF: return []
    case let value where value <= 0x10FFFF && value & 0xFFFE == 0xFFFE: return []
    default: break
    }
    return [Unicode.Scalar(value) ?? "\u{FFFD}"]
  }

  // MARK: ftfy

  /// ftfy's `unescape_html`: only whole references that end in a semicolon, and some names in capitals.
  static func unescapedWhereCertain(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    var position = 0
    while position < text.count {
      guard text[position] == "&", let (length, scalars) = certainReference(in: text[(position + 1)...])
      else {
        result.append(text[position])
        position += 1
        continue
      }
      result += scalars
      position += 1 + length
    }
    return result
  }

  private static func certainReference(in text: ArraySlice<Unicode.Scalar>) -> (Int, [Unicode.Scalar])? {
    let mark = text.first == "#" ? 1 : 0
    let body = text.dropFirst(mark).prefix {
      $0.isASCII && ($0.properties.isAlphabetic || ("0"..."9").contains($0))
    }
    guard (1...24).contains(body.count), text.dropFirst(mark + body.count).first == ";" else { return nil }
    let whole = text.prefix(mark + body.count + 1)
    if mark == 0 {
      let scalars = named(whole) ?? capitals[String(String.UnicodeScalarView(whole))]
      return scalars.map { (whole.count, $0) }
    }
    let scalars = unescaped(["&"] + whole)
    return scalars.contains(";") ? nil : (whole.count, scalars)
  }
}
