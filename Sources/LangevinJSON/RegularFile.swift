import Foundation

/// A file that is there in full, mapped into memory. Among a model's files may lie anything: opening a FIFO would wait
/// for ever for a writer, and a device like /dev/zero never ends.
public final class RegularFile: @unchecked Sendable {
  /// Why a file cannot be read.
  public enum Failure: Error, Sendable, Equatable {
    case missing
    /// In words; the system's where it refused.
    case unreadable(String)
  }

  /// The contents, which go away with this: hold on to it (`withExtendedLifetime`) while they are read.
  public let bytes: UnsafeRawBufferPointer

  /// Looks at what it is before anything is read. Throws `Failure`.
  public init(path: String) throws(Failure) {
    // Without waiting for the other end of a FIFO.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw errno == ENOENT ? .missing : .unreadable(Self.reason()) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .unreadable(Self.reason()) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .unreadable("it is \(Self.kind(status.st_mode))") }
    let count = Int(status.st_size)
    // A mapping of no bytes is an error of mmap's.
    guard count > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let start = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
      throw .unreadable(Self.reason())
    }
    bytes = UnsafeRawBufferPointer(start: start, count: count)
  }

  /// A copy of a whole file. Throws `Failure`.
  public static func contents(path: String) throws(Failure) -> [UInt8] {
    let file = try RegularFile(path: path)
    return withExtendedLifetime(file) { [UInt8](file.bytes) }
  }

  deinit {
    if let start = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: start), bytes.count) }
  }

  private static func reason() -> String { String(cString: strerror(errno)) }

  private static func kind(_ mode: mode_t) -> String {
    switch mode & S_IFMT {
    case S_IFDIR: "a folder, not a regular file"
    case S_IFIFO: "a FIFO, not a regular file"
    case S_IFSOCK: "a socket, not a regular file"
    default: "a device, not a regular file"
    }
  }

  /// Drops the pages of these bytes from resident memory, so that what was copied to a device does not count
  /// twice; a page read again comes back from the file.
  public func release(_ range: Range<Int>) {
    guard let start = bytes.baseAddress, !range.isEmpty else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let first = range.lowerBound / page * page
    let last = min((range.upperBound + page - 1) / page * page, bytes.count)
    madvise(UnsafeMutableRawPointer(mutating: start + first), last - first, MADV_DONTNEED)
  }
}
