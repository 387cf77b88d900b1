import Foundation

/// A file that appears under its name only when it is complete.
public enum OutputFile {
  /// Whether a file could be written here, found by making one beside it and taking it away.
  ///
  /// Throws `ImageError.unwritable`.
  public static func check(_ url: URL) throws {
    var isFolder: ObjCBool = false
    if FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue {
      throw ImageError.unwritable(path: url.path, reason: "it is a folder")
    }
    let (descriptor, temporary) = try create(beside: url)
    close(descriptor)
    unlink(temporary)
  }

  /// Writes to a temporary file in the same folder and renames it.
  ///
  /// Throws `ImageError.unwritable`; nothing is left behind then.
  public static func write(_ bytes: UnsafeRawBufferPointer, to url: URL) throws {
    try write(to: url) { put in try put(bytes) }
  }

  /// Writes, piece by piece, what `body` gives to `put`.
  ///
  /// Throws `ImageError.unwritable` and what `body` throws; nothing is left behind then.
  static func write(
    to url: URL, _ body: (_ put: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    let (descriptor, temporary) = try create(beside: url)
    func failed() -> ImageError { .unwritable(path: url.path, reason: String(cString: strerror(errno))) }
    var isOpen = true
    do {
      try body { bytes in
        var rest = bytes[...]
        while !rest.isEmpty {
          let count = Foundation.write(
            descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
          if count < 0 && errno == EINTR { continue }
          guard count >= 0 else { throw failed() }
          rest = rest.dropFirst(count)
        }
      }
      guard fsync(descriptor) == 0 else { throw failed() }
      isOpen = false
      guard close(descriptor) == 0, rename(temporary, url.path) == 0 else { throw failed() }
    } catch {
      if isOpen { close(descriptor) }
      unlink(temporary)
      throw error
    }
  }

  /// Lets `body` write a temporary file in the same folder, and renames it.
  ///
  /// Throws `ImageError.unwritable` and what `body` throws; nothing is left behind then.
  static func write(to url: URL, _ body: (_ temporary: URL) throws -> Void) throws {
    let (descriptor, temporary) = try create(beside: url)
    close(descriptor)
    do {
      try body(URL(fileURLWithPath: temporary))
      guard rename(temporary, url.path) == 0 else {
        throw ImageError.unwritable(path: url.path, reason: String(cString: strerror(errno)))
      }
    } catch {
      unlink(temporary)
      throw error
    }
  }

  private static func create(beside url: URL) throws -> (descriptor: Int32, path: String) {
    let name = ".\(url.lastPathComponent).\(getpid()).\(UInt32.random(in: 0 ... .max)).part"
    let path = url.deletingLastPathComponent().appendingPathComponent(name).path
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw ImageError.unwritable(path: url.path, reason: String(cString: strerror(errno)))
    }
    return (descriptor, path)
  }
}
