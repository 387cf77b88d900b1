import Foundation
import Langevin

/// The parts of a form with files (RFC 7578).
struct Multipart {
  struct Part {
    let name: String
    let isFile: Bool
    let data: Data

    var text: String? { String(validating: data, as: UTF8.self) }
  }

  let parts: [Part]
  /// More than any form has.
  private static let limit = 64

  /// The boundary that a Content-Type names; nil for another type.
  static func boundary(_ contentType: String) -> String? {
    let pieces = contentType.split(separator: ";").map { $0.trimmingCharacters(in: .whitespaces) }
    guard pieces.first?.lowercased() == "multipart/form-data" else { return nil }
    for piece in pieces.dropFirst() where piece.lowercased().hasPrefix("boundary=") {
      let value = piece.dropFirst("boundary=".count).trimmingCharacters(in: CharacterSet(charactersIn: "\""))
      return (1...70).contains(value.utf8.count) ? value : nil
    }
    return nil
  }

  /// Throws `APIError` for what is no such form.
  init(_ body: [UInt8], boundary: String) throws {
    func malformed(_ reason: String) -> APIError { .badRequest("the body is no multipart form: \(reason)") }
    let data = Data(body)
    let delimiter = Data("--\(boundary)".utf8)
    guard let first = data.range(of: delimiter) else { throw malformed("it does not have its boundary") }
    let (lineEnd, headerEnd) = (Data("\r\n".utf8), Data("\r\n\r\n".utf8))
    var parts: [Part] = []
    var place = first.upperBound
    while true {
      if data[place...].starts(with: Data("--".utf8)) { break }
      guard data[place...].starts(with: lineEnd) else {
        throw malformed("a boundary is followed by other text")
      }
      // A part without headers begins with the empty line itself.
      guard let headers = data.range(of: headerEnd, in: place..<data.endIndex) else {
        throw malformed("a part has no end of its headers")
      }
      guard let end = data.range(of: lineEnd + delimiter, in: headers.upperBound - 2..<data.endIndex) else {
        throw malformed("it ends before its last boundary")
      }
      let lines = String(decoding: data[place..<headers.lowerBound], as: UTF8.self).components(
        separatedBy: "\r\n")
      guard let disposition = lines.first(where: { $0.lowercased().hasPrefix("content-disposition:") }),
        let name = Self.parameter("name", of: disposition)
      else { throw malformed("a part has no name") }
      let start = min(headers.upperBound, end.lowerBound)
      parts.append(
        Part(
          name: name, isFile: Self.parameter("filename", of: disposition) != nil,
          data: Data(data[start..<end.lowerBound])))
      guard parts.count <= Self.limit else { throw malformed("it has more than \(Self.limit) parts") }
      place = end.upperBound
    }
    self.parts = parts
  }

  private static func parameter(_ name: String, of header: String) -> String? {
    for piece in header.split(separator: ";").dropFirst() {
      let pair = piece.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
      guard pair.count == 2, pair[0].lowercased() == name else { continue }
      return pair[1].trimmingCharacters(in: CharacterSet(charactersIn: "\""))
    }
    return nil
  }
}
