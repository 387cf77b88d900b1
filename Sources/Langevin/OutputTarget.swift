import Foundation
import Synchronization

/// What a path leads to when all symbolic links are followed.
enum OutputTarget {
  /// A file, or none yet.
  case file(path: String, existing: stat?)
  /// A device or a named pipe.
  case special(path: String)
  /// An open stream of this process, as `/dev/stdout`. Opening it by its path would begin at the file's start.
  case descriptor(Int32)

  /// Throws `ImageError.unwritable` where nothing can be written there.
  init(_ url: URL) throws {
    var path = url.path
    for _ in 0..<40 {
      if let number = Self.descriptor(path) {
        self = .descriptor(number)
        return
      }
      var status = stat()
      guard lstat(path, &status) == 0 else {
        guard errno == ENOENT else { throw OutputFile.unwritable(url) }
        self = .file(path: path, existing: nil)
        return
      }
      switch status.st_mode & S_IFMT {
      case S_IFREG:
        // Renaming over it needs no permission to write it; but that is what takes the permission away for.
        guard access(path, W_OK) == 0 else { throw OutputFile.unwritable(url) }
        self = .file(path: path, existing: status)
        return
      case S_IFLNK: path = try Self.destination(of: path, url)
      case S_IFDIR: throw ImageError.unwritable(path: url.path, reason: "it is a folder")
      case S_IFSOCK: throw ImageError.unwritable(path: url.path, reason: "it is a socket")
      default:
        self = .special(path: path)
        return
      }
    }
    throw OutputFile.unwritable(url, ELOOP)
  }

  private static func destination(of link: String, _ url: URL) throws -> String {
    let path: String
    do {
      path = try FileManager.default.destinationOfSymbolicLink(atPath: link)
    } catch {
      throw OutputFile.unwritable(url, EACCES)
    }
    return path.hasPrefix("/") ? path : (link as NSString).deletingLastPathComponent + "/" + path
  }

  private static func descriptor(_ path: String) -> Int32? {
    for folder in ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/", "/proc/\(getpid())/fd/"]
    where path.hasPrefix(folder) {
      return Int32(path.dropFirst(folder.count))
    }
    return nil
  }
}

/// A file that is being written. It is locked for as long, which tells it from what a killed run left behind.
struct TemporaryFile {
  let descriptor: Int32
  /// Short, whatever the length of the name that the file gets.
  let path: String

  private static let swept = Mutex<Set<String>>([])

  /// Nil where it cannot be made; errno says why. The first in a folder takes away what killed runs left there.
  init?(in folder: String) {
    Self.sweep(folder)
    while true {
      let path = folder + "/.langevin-\(getpid())-\(UInt32.random(in: 0 ... .max)).part"
      let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      guard descriptor >= 0 else { return nil }
      // A file system without locks is one where nothing is swept either.
      while flock(descriptor, LOCK_EX) != 0, errno == EINTR {}
      var status = stat()
      if fstat(descriptor, &status) != 0 || status.st_nlink > 0 {
        (self.path, self.descriptor) = (path, descriptor)
        return
      }
      // Another run swept it before it was locked.
      Foundation.close(descriptor)
    }
  }

  /// Closes it, and gives up the lock.
  func close() { Foundation.close(descriptor) }

  /// Closes it and takes it away.
  func discard() {
    unlink(path)
    close()
  }

  private static func sweep(_ folder: String) {
    guard swept.withLock({ $0.insert(folder).inserted }),
      let names = try? FileManager.default.contentsOfDirectory(atPath: folder)
    else { return }
    for name in names where name.hasPrefix(".langevin-") && name.hasSuffix(".part") {
      let path = folder + "/" + name
      let descriptor = open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)
      guard descriptor >= 0 else { continue }
      defer { Foundation.close(descriptor) }
      var status = stat()
      guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { unlink(path) }
    }
  }
}
