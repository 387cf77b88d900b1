import Foundation
import LangevinJSON
import LangevinTensor

/// What can be wrong with a tokenizer's files.
public enum TokenizerError: Error, Sendable, Equatable, CustomStringConvertible {
  case missingFile(path: String)
  case malformed(path: String, reason: String)
  /// A tokenizer of another kind, or one that does what this implementation cannot.
  case unsupported(path: String, found: String)

  /// One line that names the file.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .missingFile(let path): "\(path): no such file"
    case .malformed(let path, let reason): "\(path): malformed tokenizer: \(reason)"
    case .unsupported(let path, let found): "\(path): \(found) is not supported"
    }
  }

  /// A whole file. Throws `missingFile` and `malformed`.
  static func contents(_ url: URL) throws(TokenizerError) -> [UInt8] {
    do {
      return try RegularFile.contents(path: url.path)
    } catch {
      switch error {
      case .missing: throw .missingFile(path: url.path)
      case .unreadable(let reason): throw .malformed(path: url.path, reason: "cannot be read: \(reason)")
      }
    }
  }
}
