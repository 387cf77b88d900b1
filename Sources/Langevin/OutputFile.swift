import Foundation

/// A file that appears under its name only when it is complete.
///
/// Folders that are missing are made. A symbolic link is followed. A file that is there is replaced and keeps its
/// permissions. What is no file, as a device, a pipe or `/dev/stdout`, is written into.
public enum OutputFile {
  /// Whether a file could be written here, found by making one in its folder and taking it away. No folder is made.
  ///
  /// Throws `ImageError.unwritable`.
  public static func check(_ url: URL) throws {
    switch try OutputTarget(url) {
    case .file(let path, _):
      var folder = (path as NSString).deletingLastPathComponent
      while access(folder, F_OK) != 0, errno == ENOENT, folder != "/" {
        folder = (folder as NSString).deletingLastPathComponent
      }
      guard let temporary = TemporaryFile(in: folder) else { throw unwritable(url) }
      temporary.discard()
    case .special(let path): guard access(path, W_OK) == 0 else { throw unwritable(url) }
    case .descriptor(let number):
      let flags = fcntl(number, F_GETFL)
      guard flags >= 0, flags & O_ACCMODE != O_RDONLY else { throw unwritable(url, EBADF) }
    }
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
    switch try OutputTarget(url) {
    case .file(let path, let existing):
      try replace(path, existing, url) { temporary in
        try body { try put($0, to: temporary.descriptor, url) }
      }
    case .special(let path): try pour(into: open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY), url, body)
    case .descriptor(let number): try pour(into: fcntl(number, F_DUPFD_CLOEXEC, 0), url, body)
    }
  }

  /// Lets `body` write a temporary file, by its name, and puts it in place.
  ///
  /// Throws `ImageError.unwritable` and what `body` throws; nothing is left behind then.
  static func write(to url: URL, _ body: (_ temporary: URL) throws -> Void) throws {
    if case .file(let path, let existing) = try OutputTarget(url) {
      return try replace(path, existing, url) { try body(URL(fileURLWithPath: $0.path)) }
    }
    // A program may want to go back in its file, and a pipe has no way back.
    guard let temporary = TemporaryFile(in: FileManager.default.temporaryDirectory.path) else {
      throw unwritable(url)
    }
    defer { temporary.discard() }
    try body(URL(fileURLWithPath: temporary.path))
    let bytes = try Data(contentsOf: URL(fileURLWithPath: temporary.path), options: .alwaysMapped)
    try bytes.withUnsafeBytes { try write($0, to: url) }
  }

  /// Runs `body` while no other process is in this function for the same folder: a name that was free stays free
  /// until it is written.
  ///
  /// A file system without locks, or a folder that is not there yet, holds nobody off. Throws what `body` throws.
  public static func exclusively<Result>(in folder: URL, _ body: () throws -> Result) rethrows -> Result {
    let descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    defer { if descriptor >= 0 { close(descriptor) } }
    while descriptor >= 0, flock(descriptor, LOCK_EX) != 0, errno == EINTR {}
    return try body()
  }

  /// Makes a folder and those around it, where they are missing. Throws `ImageError.unwritable`.
  static func makeFolder(_ url: URL) throws { try makeFolder(url.path, url) }

  static func unwritable(_ url: URL, _ code: Int32 = errno) -> ImageError {
    .unwritable(path: url.path, reason: String(cString: strerror(code)))
  }

  private static func replace(
    _ path: String, _ existing: stat?, _ url: URL, _ body: (TemporaryFile) throws -> Void
  ) throws {
    let folder = (path as NSString).deletingLastPathComponent
    try makeFolder(folder, url)
    guard let temporary = TemporaryFile(in: folder) else { throw unwritable(url) }
    do {
      try body(temporary)
      if let existing {
        // Only the superuser can give files away; where it cannot be done, the file is the writer's.
        _ = fchown(temporary.descriptor, existing.st_uid, existing.st_gid)
        guard fchmod(temporary.descriptor, existing.st_mode & 0o777) == 0 else { throw unwritable(url) }
      }
      try settle(temporary.descriptor, url)
      // Renamed while it is locked, so that no sweep takes it for a dead run's.
      guard rename(temporary.path, path) == 0 else { throw unwritable(url) }
      temporary.close()
    } catch {
      temporary.discard()
      throw error
    }
  }

  private static func makeFolder(_ path: String, _ url: URL) throws {
    guard access(path, F_OK) != 0, errno == ENOENT else { return }
    try makeFolder((path as NSString).deletingLastPathComponent, url)
    guard mkdir(path, 0o777) == 0 || errno == EEXIST else { throw unwritable(url) }
  }

  private static func pour(
    into descriptor: Int32, _ url: URL,
    _ body: (_ put: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) throws {
    guard descriptor >= 0 else { throw unwritable(url) }
    defer { close(descriptor) }
    try body { try put($0, to: descriptor, url) }
    try settle(descriptor, url)
  }

  private static func put(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, _ url: URL) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = Foundation.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
      if count >= 0 {
        rest = rest.dropFirst(count)
      } else if errno == EAGAIN {
        var state = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&state, 1, -1)
      } else if errno != EINTR {
        throw unwritable(url)
      }
    }
  }

  /// Has the bytes reach the disk, where there is one.
  private static func settle(_ descriptor: Int32, _ url: URL) throws {
    guard fsync(descriptor) == 0 || [EINVAL, ENOTSUP, EROFS].contains(errno) else { throw unwritable(url) }
  }
}
