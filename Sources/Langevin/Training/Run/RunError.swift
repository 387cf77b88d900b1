import Foundation
import LangevinTensor

/// What can be wrong with the folder of a training run.
public enum RunError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A new run was to begin in a folder that holds something.
  case notEmpty(path: String)
  /// A folder that was to be replaced by a model holds something else than a model.
  case occupied(path: String)
  /// A run was to be resumed where none has begun.
  case noRun(path: String)
  /// Another process trains in the folder; its number, where it could be read.
  case locked(path: String, process: Int?)
  /// The operating system refused; `reason` is its message.
  case unwritable(path: String, reason: String)
  case unreadable(path: String, reason: String)
  case malformed(path: String, reason: String)
  /// The file ends before what its header promises; both in bytes.
  case truncated(path: String, expected: Int, got: Int)
  /// The bytes are not those that were written; both as checksums.
  case damaged(path: String, expected: String, found: String)
  /// No state can be used. One reason for each, of the newest first.
  case noUsableState(path: String, reasons: [String])
  /// The state's networks, tensor names or shapes are others than the run's; both as hashes.
  case otherArchitecture(path: String, expected: String, found: String)
  /// The state was trained on other data than the run's; both as hashes.
  case otherData(path: String, expected: String, found: String)
  /// The state was trained with other settings than the run's; both as hashes.
  case otherSettings(path: String, expected: String, found: String)

  /// One line that says which file and what to do.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .notEmpty(let path):
      "\(path): is not empty; langevin train resume \(path.shellQuoted) goes on with a run that is there, "
        + "--output names another folder for a new one"
    case .occupied(let path): "\(path): holds other files than a model; it is not replaced"
    case .noRun(let path): "\(path): holds no training run: it has no train.json"
    case .locked(let path, let process):
      "\(path): " + (process.map { "process \($0)" } ?? "another process") + " is training in it"
    case .unwritable(let path, let reason): "\(path): cannot be written: \(reason)"
    case .unreadable(let path, let reason): "\(path): cannot be read: \(reason)"
    case .malformed(let path, let reason): "\(path): malformed: \(reason)"
    case .truncated(let path, let expected, let got): "\(path): truncated: \(got) bytes of \(expected)"
    case .damaged(let path, let expected, let found):
      "\(path): damaged: its bytes have the checksum \(found), what was written had \(expected)"
    case .noUsableState(let path, let reasons):
      "\(path): no state of this run can be used: \(reasons.joined(separator: "; "))"
    case .otherArchitecture(let path, let expected, let found):
      "\(path): is a state of other networks (hash \(found)) than this run's (hash \(expected))"
    case .otherData(let path, let expected, let found):
      "\(path): was trained on other data (hash \(found)) than this run's (hash \(expected))"
    case .otherSettings(let path, let expected, let found):
      "\(path): was trained with other settings (hash \(found)) than this run's train.json (hash \(expected))"
    }
  }

  /// What writing gives, with errors of files as this module's.
  static func writing<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch ImageError.unwritable(let path, let reason) {
      throw RunError.unwritable(path: path, reason: reason)
    } catch CheckpointError.unwritable(let path, let reason) {
      throw RunError.unwritable(path: path, reason: reason)
    }
  }

  /// What reading a file gives, with its errors as this module's.
  static func reading<Result>(_ url: URL, _ body: (URL) throws -> Result) throws -> Result {
    do {
      return try body(url)
    } catch let error as CheckpointError {
      switch error {
      case .truncated(let path, let expected, let got):
        throw RunError.truncated(path: path, expected: expected, got: got)
      case .malformed(let path, let reason): throw RunError.malformed(path: path, reason: reason)
      case .unreadable(let path, let reason): throw RunError.unreadable(path: path, reason: reason)
      case .missingFile(let path): throw RunError.unreadable(path: path, reason: "no such file")
      case .duplicateKey(let path, let key):
        throw RunError.malformed(path: path, reason: "the key '\(key)' appears twice")
      default: throw RunError.malformed(path: url.path, reason: "it is something else: \(error)")
      }
    }
  }
}
