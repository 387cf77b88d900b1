import LangevinNN
import LangevinTensor

/// A network that a task trains, or a part of one.
public struct TrainedNetwork: Sendable {
  /// By which the task asks for its weights, and under which its state is kept: `unet`.
  public var name: String
  /// Where it starts: a checkpoint, or `InitialWeights`.
  public var start: any WeightSource
  /// The rate of its steps, in units of the run's.
  public var rateScale: Float
  /// Which parameters are trained; the others stay as they are.
  public var isTrained: @Sendable (_ name: String) -> Bool
  /// What a parameter may not exceed: after each step it is brought back there. Nil for most.
  public var limit: @Sendable (_ name: String) -> Float?
  /// Loads the network, so that its parameters become known.
  public var build: @Sendable (Weights) throws -> Void

  /// By default all of it is trained, at the run's rate and without limits.
  public init(
    _ name: String, start: any WeightSource, rateScale: Float = 1,
    isTrained: @escaping @Sendable (String) -> Bool = { _ in true },
    limit: @escaping @Sendable (String) -> Float? = { _ in nil },
    build: @escaping @Sendable (Weights) throws -> Void
  ) {
    (self.name, self.start, self.rateScale) = (name, start, rateScale)
    (self.isTrained, self.limit, self.build) = (isTrained, limit, build)
  }
}

/// What a run learns: float32 masters of parameters, each with its optimizer's state.
public struct TrainedParameters: Sendable {
  /// One parameter of one network.
  public struct Entry: Sendable {
    /// The network's.
    public let network: String
    /// The parameter's in its checkpoint.
    public let name: String
    /// The parameter's, as its checkpoint has it.
    public let shape: Shape
    /// Its steps' rate in units of the run's.
    public let rateScale: Float
    /// The most that its value may be.
    let limit: Float?
    /// Float32 [4, shape...]: value, mean of gradients, mean of their squares, average of values.
    public internal(set) var state: Tensor

    /// By which a state file knows it: `unet/conv_in.weight`.
    public var fullName: String { network + "/" + name }
    /// Its value, which shares the state's memory.
    public var value: Tensor { get throws { try state.rows(0..<1).reshaped(shape) } }
    /// The average of its values.
    public var average: Tensor { get throws { try state.rows(3..<4).reshaped(shape) } }
  }

  /// In the order in which the networks load them.
  public internal(set) var entries: [Entry]
  let networks: [TrainedNetwork]
  let device: Device

  /// Reads or makes the parameters of these networks. Throws `TrainingError.nothingToTrain`, and what loading throws.
  public init(_ networks: [TrainedNetwork], on device: Device) throws {
    (self.networks, self.device) = (networks, device)
    entries = try networks.flatMap { network -> [Entry] in
      let weights = Weights(network.start, on: device, component: network.name)
      try network.build(weights)
      let parameters = weights.parameters
      let names = parameters.names.filter(network.isTrained)
      guard !names.isEmpty else { throw TrainingError.nothingToTrain(network: network.name) }
      return try names.map { name in
        let value = try parameters.load(name, on: device).cast(to: .float32)
        let flat = try value.reshaped([1, value.shape.count])
        let zeros = try Tensor.fill(0, [2, value.shape.count], on: device)
        let state = try Tensor.concatenated([flat, zeros, flat], axis: 0)
        return Entry(
          network: network.name, name: name, shape: value.shape, rateScale: network.rateScale,
          limit: network.limit(name), state: try state.reshaped(Shape([4] + value.shape.dimensions)))
      }
    }
  }

  /// How many numbers are learnt.
  public var count: Int { entries.reduce(0) { $0 + $1.shape.count } }

  /// A network's parameters as its checkpoint has them: their values, or with `averaged` their averages. What is not
  /// trained comes from where the network started.
  public func source(of network: String, averaged: Bool) throws -> any WeightSource {
    var tensors: [String: Tensor] = [:]
    for entry in entries where entry.network == network {
      tensors[entry.name] = try averaged ? entry.average : entry.value
    }
    return TrainedWeights(tensors, start: networks.first { $0.name == network }?.start)
  }

  /// Takes the states of a file in place of its own. Throws `TrainingError.stateMismatch` where a parameter is missing, is
  /// another or has another shape.
  public mutating func restore(_ states: [String: Tensor]) throws {
    let known = Set(entries.map(\.fullName))
    if let stranger = states.keys.filter({ !known.contains($0) }).min() {
      throw TrainingError.stateMismatch(parameter: stranger, reason: "the networks have no such parameter")
    }
    for index in entries.indices {
      let entry = entries[index]
      guard let state = states[entry.fullName] else {
        throw TrainingError.stateMismatch(parameter: entry.fullName, reason: "the state lacks it")
      }
      guard state.spec == entry.state.spec else {
        throw TrainingError.stateMismatch(
          parameter: entry.fullName, reason: "the state has \(state.spec), the network \(entry.state.spec)")
      }
      entries[index].state = try state.copied(to: device)
    }
  }
}

/// Values of trained parameters, and behind them the source that the network started from.
final class TrainedWeights: WeightSource {
  private let tensors: [String: Tensor]
  private let start: (any WeightSource)?

  init(_ tensors: [String: Tensor], start: (any WeightSource)?) {
    (self.tensors, self.start) = (tensors, start)
  }

  var names: [String] {
    let started = start?.names ?? []
    return started + Set(tensors.keys).subtracting(started).sorted()
  }
  var description: String { "the trained weights of \(start?.description ?? "nothing")" }
  func spec(of name: String) -> TensorSpec? { tensors[name]?.spec ?? start?.spec(of: name) }
  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    tensors[name]?.spec ?? start?.spec(of: name, expecting: shape)
  }
  func load(_ name: String, on device: Device) throws -> Tensor {
    if let tensor = tensors[name] { return tensor.device === device ? tensor : try tensor.copied(to: device) }
    guard let start else { throw WeightError.missing(name: name, source: description) }
    return try start.load(name, on: device)
  }
}
