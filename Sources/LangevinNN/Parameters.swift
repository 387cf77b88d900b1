import LangevinTensor

/// What a network has loaded, under its checkpoint's names and in its checkpoint's shapes: to be listed, saved, or
/// replaced. As a source of weights it gives the network again, on any device.
public final class Parameters: WeightSource {
  /// A parameter as the network holds it.
  enum Held: Sendable {
    case tensor(Tensor)
    case weight(Weight)
    /// A convolution over frames has a weight for each.
    case frames([Weight])
  }

  struct Entry: Sendable {
    let spec: TensorSpec
    var held: Held
  }

  private let entries: [String: Entry]
  /// Full names, in the order in which the network loaded them.
  public let names: [String]
  /// `the parameters of …`, for messages.
  public let description: String

  init(_ entries: [String: Entry], names: [String], of source: String) {
    (self.entries, self.names) = (entries, names)
    description = "the parameters of \(source)"
  }

  /// The checkpoint's shape, in the dtype in which the parameter is stored.
  public func spec(of name: String) -> TensorSpec? { entries[name]?.spec }

  /// As `spec(of:)`.
  public func spec(of name: String, expecting shape: Shape) -> TensorSpec? { spec(of: name) }

  /// A parameter in its checkpoint's shape, bit by bit what was loaded, as a constant. Throws `WeightError.missing`.
  public func tensor(_ name: String) throws -> Tensor {
    guard let entry = entries[name] else { throw WeightError.missing(name: name, source: description) }
    switch entry.held {
    case .tensor(let tensor): return try tensor.copied(to: tensor.device).reshaped(entry.spec.shape)
    case .weight(let weight): return try weight.checkpointTensor().reshaped(entry.spec.shape)
    case .frames(let weights):
      let taps = try weights.map { weight in
        try weight.checkpointTensor().reshaped([weight.columns * weight.shape.channels, 1, weight.shape.taps])
      }
      return try Tensor.concatenated(taps, axis: 1).reshaped(entry.spec.shape)
    }
  }

  /// The same on a device. Throws as `tensor` does.
  public func load(_ name: String, on device: Device) throws -> Tensor { try tensor(name).copied(to: device) }

  /// With another value for one parameter, from which the network can be built again; all others are shared.
  ///
  /// Throws `WeightError.missing` for a name that the network has not, `.wrongShape` for another shape, and
  /// `.unsupportedDType` for integers.
  public func replacing(_ name: String, with tensor: Tensor) throws -> Parameters {
    guard let spec = spec(of: name) else { throw WeightError.missing(name: name, source: description) }
    guard tensor.shape == spec.shape else {
      throw WeightError.wrongShape(name: name, expected: spec.shape, got: tensor.shape, source: description)
    }
    guard tensor.dtype.isFloatingPoint else {
      throw WeightError.unsupportedDType(name: name, source: description)
    }
    var entries = entries
    entries[name] = Entry(spec: tensor.spec, held: .tensor(tensor))
    return Parameters(entries, names: names, replaced: description)
  }

  private init(_ entries: [String: Entry], names: [String], replaced description: String) {
    (self.entries, self.names, self.description) = (entries, names, description)
  }
}
