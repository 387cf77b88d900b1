import Foundation
import LangevinTensor

/// Everything that one case needs to be run again: its inputs are drawn anew from the seed.
public struct Replay: Sendable, Codable {
  /// Changes when the same seed draws other inputs or a case is written otherwise.
  public static let currentFormat = 2

  /// Elements of all inputs and the output together: 4 GiB in the double precision in which they are checked.
  public static let maximumCount = 1 << 29

  /// `currentFormat` of the writer.
  public var format = Replay.currentFormat
  /// The version of the tool that wrote it.
  public var version: String
  /// The case to run again.
  public var test: OperationCase
  /// Storage of its operands.
  public var dtype: DType
  /// The seed of its inputs.
  public var seed: UInt64

  /// A case to be written down.
  public init(version: String, test: OperationCase, dtype: DType, seed: UInt64) {
    self.version = version
    self.test = test
    self.dtype = dtype
    self.seed = seed
  }

  /// One line of JSON without an apostrophe, for a shell's single quotes.
  public var text: String {
    guard let data = try? OperationJSON.encode(self) else {
      preconditionFailure("its numbers are coded as JSON")
    }
    return String(decoding: data, as: UTF8.self).replacingOccurrences(of: "'", with: "\\u0027")
  }

  /// Reads `text`. Throws `ReplayError`.
  public init(text: String) throws {
    struct Header: Decodable {
      let format: Int
      let version: String
    }
    let data = Data(text.utf8)
    do {
      let header = try OperationJSON.decode(Header.self, from: data)
      guard header.format == Replay.currentFormat else {
        throw ReplayError.otherFormat(found: header.format, version: header.version)
      }
      self = try OperationJSON.decode(Replay.self, from: data)
      try OperationJSON.checkNumbers(in: test)
      let specs = test.specs(dtype)
      guard test.kinds.count == specs.count, dtype.isFloatingPoint else {
        throw ReplayError.malformed(reason: "its inputs do not fit the case")
      }
      let output = try test.operation(dtype).output(of: specs)
      let count = (specs + [output]).reduce(0) { $0 + $1.shape.count }
      guard count <= Replay.maximumCount else {
        throw ReplayError.malformed(
          reason: "it has \(count) elements, at most \(Replay.maximumCount) are drawn")
      }
    } catch let error as DecodingError {
      throw ReplayError.malformed(reason: Replay.reason(error))
    } catch let error as TensorError {
      throw ReplayError.malformed(reason: "\(error)")
    }
  }

  private static func reason(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, _): "it has no \(key.stringValue)"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      (context.codingPath.map(\.stringValue) + [context.debugDescription]).joined(separator: ": ")
    @unknown default: "it cannot be decoded"
    }
  }
}

/// Why a replay cannot be run.
public enum ReplayError: Error, Sendable, Equatable, CustomStringConvertible {
  case malformed(reason: String)
  /// Another version wrote it.
  case otherFormat(found: Int, version: String)

  /// What went wrong, in one line.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .malformed(let reason): "this is no replay: \(reason)"
    case .otherFormat(let found, let version):
      "this replay was written by langevin \(version) in format \(found), and this version reads format "
        + "\(Replay.currentFormat): it would draw other inputs"
    }
  }
}
