import Foundation
import LangevinTensor
import Logging

/// Compiled programs on disk, under the XDG cache directory. A file is believed only after its header, both
/// lengths, its key and its checksum agree, because some drivers crash on a damaged binary.
struct ProgramCache: Sendable {
  /// Nil turns the cache off.
  let directory: URL?
  private static let magic: [UInt8] = Array("LANGEVIN-CL-1\n\0\0".utf8)
  private static let headerSize = 16 + 8 + 8 + 8

  /// `$XDG_CACHE_HOME/langevin/programs`, by default under `~/.cache`.
  static var standard: ProgramCache {
    ProgramCache(directory: CacheFolder.url("programs"))
  }

  func url(key: String) -> URL? {
    directory?.appendingPathComponent(FNV.name(key) + ".bin")
  }

  /// The binary stored under this key; nil where there is none or it is damaged, which is logged.
  func load(key: String, logger: Logger) -> [UInt8]? {
    guard let url = url(key: key), let data = try? Data(contentsOf: url) else { return nil }
    guard let binary = ProgramCache.decode([UInt8](data), key: key) else {
      logger.warning("\(url.path) is damaged or of another version; rebuilding the program")
      return nil
    }
    return binary
  }

  /// Written to a temporary file and renamed; a failure costs only the next start's time.
  func store(_ binary: [UInt8], key: String, logger: Logger) {
    guard let directory, let url = url(key: key) else { return }
    do {
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      try Data(ProgramCache.encode(binary, key: key)).write(to: url, options: .atomic)
    } catch {
      logger.debug("the program cache cannot be written: \(error)")
    }
  }

  static func encode(_ binary: [UInt8], key: String) -> [UInt8] {
    let key = Array(key.utf8)
    let numbers = [UInt64(key.count), UInt64(binary.count), FNV.hash(key + binary)]
    return magic + numbers.flatMap { n in (0..<8).map { UInt8(truncatingIfNeeded: n >> (8 * $0)) } } + key
      + binary
  }

  static func decode(_ file: [UInt8], key: String) -> [UInt8]? {
    let key = Array(key.utf8)
    guard file.count >= headerSize, Array(file[0..<16]) == magic else { return nil }
    let numbers = [16, 24, 32].map { start in
      file[start..<start + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    }
    guard numbers[0] == UInt64(key.count), numbers[1] == UInt64(max(0, file.count - headerSize - key.count)),
      Array(file.dropFirst(headerSize).prefix(key.count)) == key,
      FNV.hash(file.dropFirst(headerSize)) == numbers[2]
    else { return nil }
    return Array(file.dropFirst(headerSize + key.count))
  }
}

extension OpenCLBackend {
  /// Where compiled programs are kept; nil where neither `XDG_CACHE_HOME` nor `HOME` says.
  public static var programCacheFolder: URL? { ProgramCache.standard.directory }
}
