import Foundation
import Synchronization

/// A file that grows by whole records. Each reaches the system in one piece when it is appended, and one that does not
/// fit on the disk is taken back.
final class AppendedFile: Sendable {
  let url: URL
  /// Of one writer at a time.
  private let descriptor: Mutex<Int32>

  /// Opens a file, or makes it in a folder that is there. Throws `RunError.unwritable`.
  init(_ url: URL) throws {
    self.url = url
    descriptor = Mutex(open(url.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666))
    guard descriptor.withLock({ $0 >= 0 }) else { throw Self.unwritable(url) }
  }

  deinit { descriptor.withLock { if $0 >= 0 { _ = close($0) } } }

  /// Throws `RunError.unwritable`; the file is as it was then.
  func append(_ bytes: [UInt8]) throws {
    try descriptor.withLock { descriptor in
      let start = lseek(descriptor, 0, SEEK_END)
      try bytes.withUnsafeBytes { bytes in
        var rest = bytes[...]
        while !rest.isEmpty {
          let count = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
          if count >= 0 {
            rest = rest.dropFirst(count)
          } else if errno != EINTR {
            let error = Self.unwritable(url)
            if start >= 0 { _ = ftruncate(descriptor, start) }
            throw error
          }
        }
      }
    }
  }

  /// Cuts off what lies behind a number of bytes. Throws `RunError.unwritable`.
  func cut(to length: Int) throws {
    guard descriptor.withLock({ ftruncate($0, off_t(length)) }) == 0 else { throw Self.unwritable(url) }
  }

  private static func unwritable(_ url: URL) -> RunError {
    .unwritable(path: url.path, reason: String(cString: strerror(errno)))
  }
}
