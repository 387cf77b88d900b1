import Foundation

/// `<lora:NAME>` or `<lora:NAME:SCALE>` in a prompt, as A1111's web UI reads it: the file of this name is
/// added to the model, and the text encoder does not see the tag.
public struct LoRATag: Sendable, Hashable {
  /// The file's, without folders and `.safetensors`.
  public let name: String
  /// How many times as strong.
  public let scale: Double

  /// A tag of these parts.
  public init(name: String, scale: Double = 1) { (self.name, self.scale) = (name, scale) }

  /// A prompt without its tags, and those in their order. `<lyco:…>` is the same.
  ///
  /// Throws `GenerationError.badRequest` for a tag without a name, or with anything behind it but one finite
  /// scale.
  public static func read(_ prompt: String) throws(GenerationError) -> (text: String, tags: [LoRATag]) {
    var (text, tags, rest) = ("", [LoRATag](), prompt[...])
    while let start = rest.firstIndex(of: "<") {
      text += rest[..<start]
      let opening = rest[start...]
      guard let prefix = ["<lora:", "<lyco:"].first(where: { opening.hasPrefix($0) }),
        let end = opening.firstIndex(of: ">")
      else {
        text.append("<")
        rest = opening.dropFirst()
        continue
      }
      let parts = opening[..<end].dropFirst(prefix.count).split(
        separator: ":", omittingEmptySubsequences: false)
      let scale = parts.count == 1 ? 1 : Double(parts[1].trimmingCharacters(in: .whitespaces))
      guard parts.count <= 2, !parts[0].isEmpty, let scale, scale.isFinite else {
        throw .badRequest("'\(opening[...end])' is not understood: write <lora:NAME:SCALE>, with one scale")
      }
      tags.append(LoRATag(name: String(parts[0]), scale: scale))
      rest = opening[end...].dropFirst()
    }
    return (text + rest, tags)
  }

  /// The file of the tag's name in a folder or the folders in it.
  ///
  /// Throws `CheckpointError.missingFile` for a folder that does not exist, and `AdapterError.noFile` or
  /// `.severalFiles`.
  public func file(in folder: URL) throws -> URL {
    guard let found = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil),
      FileManager.default.fileExists(atPath: folder.path)
    else { throw CheckpointError.missingFile(path: folder.path) }
    // The name is only compared: what a prompt says leads out of no folder.
    let files = found.compactMap { $0 as? URL }.filter { $0.pathExtension == "safetensors" }
    let names = files.map { $0.deletingPathExtension().lastPathComponent }
    let own = zip(files, names).filter { $0.1 == name }.map(\.0).sorted { $0.path < $1.path }
    guard let first = own.first else {
      throw AdapterError.noFile(
        tag: name, folder: folder.path, nearest: Suggestion.nearest(to: name, among: names))
    }
    guard own.count == 1 else {
      throw AdapterError.severalFiles(tag: name, paths: own.map(\.path))
    }
    return first
  }
}
