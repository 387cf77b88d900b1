import Foundation
import Langevin
import LangevinMeasurement
import Synchronization

/// A file that a picture was made from, with the SHA-256 of its bytes.
struct InputFile: Encodable {
  let name: String
  let sha256: String

  /// Throws `CheckpointError.unreadable`.
  init(_ path: String) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw CheckpointError.unreadable(path: path, reason: "no such file, or access is denied")
    }
    name = URL(fileURLWithPath: path).lastPathComponent
    sha256 = data.withUnsafeBytes { SHA256.hex(of: $0) }
  }
}

/// By what A1111's web UI knows a LoRA's file.
struct LoRAHash {
  /// What kohya's scripts wrote into the file's header, the SHA-256 of what comes behind the header, which is
  /// mostly the same, and that of the whole file.
  private let written: String?
  private let data, whole: String

  /// Throws `CheckpointError` for what is no safetensors file.
  init(_ url: URL) throws {
    written = try SafetensorsFile(url: url).metadata["sshs_model_hash"].flatMap { $0.count == 64 ? $0 : nil }
    (data, whole) = try Data(contentsOf: url, options: .alwaysMapped).withUnsafeBytes { bytes in
      let header = Int(UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)))
      return (
        SHA256.hex(of: UnsafeRawBufferPointer(rebasing: bytes.dropFirst(8 + header))), SHA256.hex(of: bytes)
      )
    }
  }

  /// As A1111 writes it, 12 digits.
  var short: String { String((written ?? data).prefix(12)) }

  /// Whether a text of at least 8 digits is the beginning of one of them.
  func matches(_ text: String) -> Bool {
    text.count >= 8 && [written, data, whole].contains { $0?.hasPrefix(text.lowercased()) ?? false }
  }
}

/// The SHA-256 of a model's weights, computed beside other work: of its file, or of its folder's denoiser.
final class ModelHash: Sendable {
  private struct Entry: Codable {
    let size: Int
    let modified: Double
    let sha256: String
  }

  private let value = Mutex<String?>(nil)
  private let isDone = DispatchSemaphore(value: 0)

  /// Begins; a folder without weights of a denoiser has no hash.
  init(_ model: URL) {
    let files = Self.files(of: model)
    Thread.detachNewThread { [self] in
      let hashes = files.compactMap { Self.hash(of: $0) }
      let complete = hashes.count == files.count && !files.isEmpty
      // Of several files that of their hashes.
      let hash = hashes.count == 1 ? hashes[0] : SHA256.hex(Array(hashes.joined().utf8))
      value.withLock { $0 = complete ? hash : nil }
      isDone.signal()
    }
  }

  /// As A1111 writes it, 10 digits; waits for it.
  var short: String? {
    isDone.wait()
    isDone.signal()
    return value.withLock { $0.map { String($0.prefix(10)) } }
  }

  private static func files(of model: URL) -> [URL] {
    var isFolder = ObjCBool(false)
    guard FileManager.default.fileExists(atPath: model.path, isDirectory: &isFolder), isFolder.boolValue
    else {
      return [model]
    }
    for name in ["unet", "transformer", "decoder"] {
      let folder = model.appending(path: name)
      let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
      let weights = names.filter { $0.hasSuffix(".safetensors") }.sorted()
      if !weights.isEmpty { return weights.map { folder.appending(path: $0) } }
    }
    return []
  }

  /// Large files are remembered, since reading them takes seconds.
  private static let rememberedSize = 64 << 20

  private static func hash(of file: URL) -> String? {
    let file = file.resolvingSymlinksInPath()
    guard let attributes = try? FileManager.default.attributesOfItem(atPath: file.path),
      let size = attributes[.size] as? Int, let date = attributes[.modificationDate] as? Date
    else { return nil }
    let known = size < rememberedSize ? nil : cache.flatMap { try? Data(contentsOf: $0) }
    var entries = known.flatMap { try? JSONDecoder().decode([String: Entry].self, from: $0) } ?? [:]
    if let entry = entries[file.path], entry.size == size, entry.modified == date.timeIntervalSince1970 {
      return entry.sha256
    }
    guard let data = try? Data(contentsOf: file, options: .alwaysMapped) else { return nil }
    let hash = data.withUnsafeBytes { SHA256.hex(of: $0) }
    if size >= rememberedSize, let cache {
      entries[file.path] = Entry(size: size, modified: date.timeIntervalSince1970, sha256: hash)
      // Without it the hash is computed again.
      try? FileManager.default.createDirectory(
        at: cache.deletingLastPathComponent(), withIntermediateDirectories: true)
      try? JSONEncoder().encode(entries).write(to: cache, options: .atomic)
    }
    return hash
  }

  /// `$XDG_CACHE_HOME/langevin/hashes.json`, by default under `~/.cache`; nil without a home.
  private static let cache: URL? = {
    let environment = ProcessInfo.processInfo.environment
    func folder(_ name: String) -> URL? {
      environment[name].flatMap { $0.isEmpty ? nil : URL(fileURLWithPath: $0) }
    }
    let caches = folder("XDG_CACHE_HOME") ?? folder("HOME")?.appending(path: ".cache")
    return caches?.appending(path: "langevin/hashes.json")
  }()
}
