import Foundation

/// A folder that appears under its name only when all of its files are complete.
enum ReplacedFolder {
  /// Lets `body` fill a folder beside its place and puts it there. A folder that was there is replaced if it is empty or
  /// `replaces` says that it may be.
  ///
  /// Throws `RunError.occupied`, `ImageError.unwritable` and what `body` throws; what was there is intact then.
  static func write(
    to url: URL, replaces: (URL) -> Bool, _ body: (_ folder: URL) throws -> Void
  ) throws {
    let url = url.resolvingSymlinksInPath()
    let parent = url.deletingLastPathComponent()
    try OutputFile.makeFolder(parent)
    sweep(parent)
    if let names = try? FileManager.default.contentsOfDirectory(atPath: url.path) {
      guard names.isEmpty || replaces(url) else { throw RunError.occupied(path: url.path) }
    }
    let path = "\(parent.path)/\(prefix)\(getpid())-\(UInt32.random(in: 0 ... .max))\(suffix)"
    guard mkdir(path, 0o777) == 0 else { throw OutputFile.unwritable(url) }
    let lock = locked(path)
    defer {
      remove(path)
      if let lock { close(lock) }
    }
    try body(URL(fileURLWithPath: path, isDirectory: true))
    // Afterwards the old folder lies under the temporary name.
    try exchange(path, url)
  }

  private static let prefix = ".langevin-"
  private static let suffix = ".folder"

  /// Both names at once where the system can; a file system that cannot has none for a moment.
  private static func exchange(_ path: String, _ url: URL) throws {
    if rename(path, url.path) == 0 { return }
    guard errno == ENOTEMPTY || errno == EEXIST else { throw OutputFile.unwritable(url) }
    if exchanged(path, url.path) { return }
    let old = path + ".old"
    guard rename(url.path, old) == 0 else { throw OutputFile.unwritable(url) }
    guard rename(path, url.path) == 0 else {
      let error = OutputFile.unwritable(url)
      rename(old, url.path)
      throw error
    }
    remove(old)
  }

  /// renameat2(2) with RENAME_EXCHANGE, which Swift's module of the C library leaves out.
  private static func exchanged(_ a: String, _ b: String) -> Bool {
    typealias Function =
      @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
    guard let symbol = dlsym(nil, "renameat2") else { return false }
    return unsafeBitCast(symbol, to: Function.self)(AT_FDCWD, a, AT_FDCWD, b, 1 << 1) == 0
  }

  private static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }

  /// Held while a folder is written, which tells it from what a killed run left behind.
  private static func locked(_ path: String) -> Int32? {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      return nil
    }
    return descriptor
  }

  private static func sweep(_ folder: URL) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    for name in names where name.hasPrefix(prefix) && name.hasSuffix(suffix) {
      let path = folder.path + "/" + name
      guard let lock = locked(path) else { continue }
      remove(path)
      close(lock)
    }
  }
}
