import Foundation

/// A folder that goes away with its owner.
public final class TemporaryFolder: Sendable {
  /// Where it is.
  public let url: URL

  /// A new one, empty.
  public init() throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("langevin-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  /// A file in it.
  public func url(_ name: String) -> URL { url.appendingPathComponent(name) }

  /// What is in it or in a folder in it: names, sorted, hidden ones too.
  public func files(_ name: String = "") throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: url(name).path).sorted()
  }

  /// Writes a file, and the folders that lead to it.
  @discardableResult
  public func write(_ bytes: [UInt8], _ name: String) throws -> URL {
    let file = url(name)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: file)
    return file
  }

  /// Writes a text.
  @discardableResult
  public func write(_ text: String, _ name: String) throws -> URL { try write(Array(text.utf8), name) }
}
