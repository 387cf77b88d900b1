import LangevinJSON
import LangevinTensor

/// A place in the files of a data set.
public struct DataPlace: Sendable, Hashable, CustomStringConvertible {
  /// The file.
  public var path: String
  /// Counted from 1.
  public var line: Int?
  /// The name of a file in an archive.
  public var member: String?

  init(_ path: String, line: Int? = nil, member: String? = nil) {
    self.path = path
    self.line = line
    self.member = member
  }

  /// `PATH: MEMBER, line N`.
  public var description: String {
    path + (member.map { ": \($0)" } ?? "") + (line.map { ", line \($0)" } ?? "")
  }
}

/// What can be wrong with the data of a training run.
public enum DataError: Error, Sendable, Equatable, CustomStringConvertible {
  case missing(path: String)
  /// The operating system refused; `reason` is its message.
  case unreadable(path: String, reason: String)
  /// No pictures at all.
  case empty(path: String)
  case malformed(DataPlace, reason: String)
  /// Keys or members that nothing reads.
  case unknownColumns(DataPlace, names: [String])
  /// `count` of `total` pictures have no caption; `first` is the name of the first.
  case withoutCaption(path: String, count: Int, total: Int, first: String)
  /// `count` captions are of pictures that are not there; `first` is the first caption's place, `name` its
  /// picture.
  case withoutPicture(count: Int, first: DataPlace, name: String)
  /// Two entries for one picture; `earlier` describes the first.
  case duplicate(DataPlace, name: String, earlier: String)
  /// A file's name that leads out of the data's folder.
  case outside(DataPlace, name: String)
  /// Pictures in formats that are not read.
  case unsupported(path: String, count: Int, first: String)
  /// Pictures that cannot be decoded; `first` says which is the first, and why.
  case broken(count: Int, total: Int, first: String)
  /// An archive that ends in the middle; `reason` says of what.
  case truncated(path: String, byteCount: Int, reason: String)
  /// The header at this byte of an archive was altered.
  case badChecksum(path: String, offset: Int)
  /// A number that no run can use; the text says which and why.
  case invalidOption(String)

  /// One line that says where, what and, where it is known, what to do.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .missing(let path): "\(path): no such file or folder"
    case .unreadable(let path, let reason): "\(path): cannot be read: \(reason)"
    case .empty(let path): "\(path): holds no picture (PNG, JPEG or WebP)"
    case .malformed(let place, let reason): "\(place): \(reason)"
    case .unknownColumns(let place, let names):
      "\(place): nothing reads \(names.prefix(5).map { "'\($0)'" }.joined(separator: ", "))"
        + (names.count > 5 ? " and \(names.count - 5) more" : "")
        + "; name the captions' column, and the others are passed over"
    case .withoutCaption(let path, let count, let total, let first):
      "\(path): \(count) of \(Self.pictures(total)) \(count == 1 ? "has" : "have") no caption; "
        + "\(count == 1 ? "it is" : "the first is") \(first)"
    case .withoutPicture(1, let first, let name): "\(first): its picture \(name) is not there"
    case .withoutPicture(let count, let first, let name):
      "\(first): its picture \(name) is not there, and \(count - 1) more are missing"
    case .duplicate(let place, let name, let earlier): "\(place): \(name) comes twice; \(earlier) has it too"
    case .outside(let place, let name):
      "\(place): '\(name)' is no path within the data's folder, which may have no '..' and not begin with '/'"
    case .unsupported(let path, let count, let first):
      "\(path): \(Self.pictures(count)) cannot be read, beginning with \(first): convert to PNG, JPEG or WebP"
    case .broken(let count, let total, let first):
      "\(count) of \(Self.pictures(total)) \(count == 1 ? "is" : "are") broken; "
        + "\(count == 1 ? "it is" : "the first is") \(first)"
    case .truncated(let path, let byteCount, let reason):
      "\(path): truncated: its \(byteCount) bytes end \(reason); download it again"
    case .badChecksum(let path, let offset):
      "\(path): damaged: the header at byte \(offset) has a wrong checksum; download it again"
    case .invalidOption(let text): text
    }
  }

  private static func pictures(_ count: Int) -> String { count == 1 ? "1 picture" : "\(count) pictures" }

  /// What opening or reading a file gives. Throws `missing` and `unreadable`.
  static func reading<Result>(
    _ path: String, _ body: (String) throws(RegularFile.Failure) -> Result
  ) throws(DataError) -> Result {
    do {
      return try body(path)
    } catch {
      switch error {
      case .missing: throw .missing(path: path)
      case .unreadable(let reason): throw .unreadable(path: path, reason: reason)
      }
    }
  }
}
