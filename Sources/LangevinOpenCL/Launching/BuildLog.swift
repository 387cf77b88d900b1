import Foundation
import LangevinTensor

/// What a compiler says of a program that does not build: too much for an error line.
enum BuildLog {
  /// Writes it to a file beside the program cache; one failure has one file, however often it comes. Returns the
  /// path, nil where there is no cache folder or it cannot be written.
  static func keep(_ log: String, program: String, options: String, beside cache: URL?) -> String? {
    guard let cache, log.contains("\n") else { return nil }
    let folder = cache.deletingLastPathComponent().appendingPathComponent("build-logs")
    let text = "\(program) \(options)\n\n\(log)"
    let hash = FNV.name(text)
    let file = folder.appendingPathComponent("\(program)-\(hash).log")
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file, options: .atomic)
    } catch {
      return nil
    }
    return file.path
  }

  /// The first error, else the first line.
  static func summary(_ log: String) -> String {
    let lines = log.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    let line = lines.first { $0.lowercased().contains("error") } ?? lines.first ?? ""
    return line.printable.shortened(to: 160)
  }
}
