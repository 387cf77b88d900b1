import Foundation
import LangevinTensor

/// What a state must have in common with the run that goes on from it, as hashes.
public struct RunFingerprint: Sendable, Hashable {
  /// Of the names and shapes of all parameters.
  public var architecture: String
  /// Of the data that is trained on.
  public var data: String
  /// Of the settings that must not change.
  public var settings: String
  /// The same by another rule, which older states were written by; nil where none were.
  public var formerSettings: String?

  /// Parameters are named NETWORK/PARAMETER and have their checkpoint's shapes; their order does not matter.
  public init(parameters: [(name: String, shape: Shape)], data: String, settings: String) {
    architecture = Self.architecture(parameters)
    (self.data, self.settings) = (data, settings)
  }

  static func architecture(_ parameters: [(name: String, shape: Shape)]) -> String {
    FNV.name(parameters.map { "\($0.name) \($0.shape.dimensions)\n" }.sorted().joined())
  }
}

/// A training run after a step: all that is needed to go on from there to the same bits.
public struct RunState: Sendable {
  /// How many steps have been taken.
  public var step: Int
  /// How many samples have been seen.
  public var samples: UInt64
  /// Of everything random in the run.
  public var seed: UInt64
  /// By which the loss is multiplied in float16; nil in other precisions.
  public var lossScale: Float?
  /// Hashes of the data and of the settings.
  public var data: String, settings: String
  /// More that the trainer keeps between steps, as text by its name.
  public var extra: [String: String]
  /// A parameter's value, mean, square and average: float32 [4, …], named NETWORK/PARAMETER.
  public var tensors: [(name: String, tensor: Tensor)]

  /// A state of these parts.
  public init(
    step: Int, samples: UInt64, seed: UInt64, lossScale: Float? = nil, data: String, settings: String,
    extra: [String: String] = [:], tensors: [(name: String, tensor: Tensor)]
  ) {
    (self.step, self.samples, self.seed, self.lossScale) = (step, samples, seed, lossScale)
    (self.data, self.settings, self.extra, self.tensors) = (data, settings, extra, tensors)
  }

  /// What a run must have in common with this state to go on from it.
  public var fingerprint: RunFingerprint {
    RunFingerprint(
      parameters: tensors.map { ($0.name, Self.parameterShape($0.tensor.shape)) }, data: data,
      settings: settings)
  }

  private static func parameterShape(_ shape: Shape) -> Shape { Shape(Array(shape.dimensions.dropFirst())) }

  // MARK: Files

  /// Writes one safetensors file, which appears under its name only when it is complete.
  ///
  /// Throws `RunError.unwritable`, `.malformed` for a tensor that is no parameter's state, and what the device throws.
  public func write(to url: URL) throws {
    for (name, tensor) in tensors { try Self.check(tensor.spec, of: name, path: url.path) }
    var checksum = Self.checksum(metadata)
    for (_, tensor) in tensors { try tensor.withBytes { checksum.add($0) } }
    var metadata = metadata
    metadata[Key.checksum.rawValue] = checksum.text
    try RunError.writing { try SafetensorsWriter.write(tensors, metadata: metadata, to: url) }
  }

  /// Reads what `write(to:)` wrote. Where a device computes on host memory, its tensors lie in the mapped file, which
  /// may be removed meanwhile and must not change.
  ///
  /// Throws `RunError`: `.truncated`, `.malformed`, `.damaged`, `.unreadable`, and what the device throws.
  public init(_ url: URL, on device: Device) throws {
    let file = try RunError.reading(url, SafetensorsFile.init(url:))
    try self.init(file, on: device)
  }

  private init(_ file: SafetensorsFile, on device: Device) throws {
    let path = file.url.path
    func fail(_ reason: String) -> RunError { .malformed(path: path, reason: reason) }
    var rest = file.metadata
    func take(_ key: Key) -> String? { rest.removeValue(forKey: key.rawValue) }
    guard take(.format) == Self.format else { throw fail("it is no state of a training run") }
    let version = take(.version) ?? "none"
    guard [Self.uncheckedVersion, Self.version].contains(version) else {
      throw fail(
        "its format has version \(version); this program reads \(Self.uncheckedVersion) and \(Self.version)")
    }
    let written = take(.checksum)
    func number<Number: LosslessStringConvertible>(_ key: Key) throws -> Number {
      let text = take(key)
      guard let number = text.flatMap(Number.init) else {
        throw fail("its \(key.rawValue) is \(text.map { "'\($0)'" } ?? "missing")")
      }
      return number
    }
    (step, samples, seed) = (try number(.step), try number(.samples), try number(.seed))
    lossScale = rest[Key.lossScale.rawValue] == nil ? nil : try number(.lossScale)
    guard step >= 0 else { throw fail("its step is \(step)") }
    guard let architecture = take(.architecture), let data = take(.data), let settings = take(.settings)
    else {
      throw fail("a hash is missing")
    }
    (self.data, self.settings, extra) = (data, settings, rest)
    tensors = []
    for name in file.names {
      guard let spec = file.spec(of: name) else { throw fail("\(name) is not float32") }
      try Self.check(spec, of: name, path: path)
      tensors.append((name, try file.load(name, on: device)))
    }
    guard architecture == fingerprint.architecture else {
      throw fail("its tensors are not those of its hash, \(architecture)")
    }
    if written == nil, version == Self.uncheckedVersion { return }
    guard let written else { throw fail("its checksum is missing") }
    var checksum = Self.checksum(file.metadata)
    for name in file.names { try file.withBytes(of: name) { checksum.add($0) } }
    guard checksum.text == written else {
      throw RunError.damaged(path: path, expected: written, found: checksum.text)
    }
  }

  /// Of all metadata but itself, yet without the tensors.
  private static func checksum(_ metadata: [String: String]) -> StateChecksum {
    var checksum = StateChecksum()
    for (key, value) in metadata.sorted(by: { $0.key < $1.key }) where key != Key.checksum.rawValue {
      checksum.add(key)
      checksum.add(value)
    }
    return checksum
  }

  private static func check(_ spec: TensorSpec, of name: String, path: String) throws {
    guard spec.dtype == .float32, spec.shape.rank > 0, spec.shape[0] == 4 else {
      throw RunError.malformed(path: path, reason: "\(name) is \(spec), not float32[4, …]")
    }
  }

  private static let format = "langevin-run-state"
  private static let version = "2"
  /// States of this version have no checksum.
  private static let uncheckedVersion = "1"

  private enum Key: String {
    case format, version, step, samples, seed
    case lossScale = "loss_scale"
    case architecture, data, settings, checksum
  }

  private var metadata: [String: String] {
    var result = extra
    func set(_ key: Key, _ value: String) { result[key.rawValue] = value }
    set(.format, Self.format)
    set(.version, Self.version)
    set(.step, "\(step)")
    set(.samples, "\(samples)")
    set(.seed, "\(seed)")
    if let lossScale { set(.lossScale, "\(lossScale)") }
    let fingerprint = fingerprint
    set(.architecture, fingerprint.architecture)
    set(.data, fingerprint.data)
    set(.settings, fingerprint.settings)
    return result
  }
}
