import Foundation
import LangevinModels
import LangevinNN
import LangevinTensor

/// How one class of component is called by itself, with the names and layouts of the reference's forward signature:
/// any part can so be held against any reference. `langevin run` is its command.
public struct ComponentCall: Sendable {
  /// By the reference's names, in the order in which they are written, in PyTorch's layouts.
  public typealias Outputs = [(name: String, tensor: Tensor)]

  /// Runs a loaded component on a file's tensors.
  public typealias Call = (ComponentInputs) throws -> Outputs

  /// Of the reference: `UNet2DConditionModel`.
  public let className: String
  /// `encode` or `decode` where a component does more than one thing; nil for its forward.
  public let method: String?
  /// Builds the component from its weights.
  public let load: @Sendable (ConfigObject, Weights) throws -> Call

  /// One row of the table.
  public init(
    _ className: String, _ method: String? = nil,
    _ load: @escaping @Sendable (ConfigObject, Weights) throws -> Call
  ) {
    (self.className, self.method, self.load) = (className, method, load)
  }

  /// Loads a component and returns what calls it on a file of inputs, as often as it is asked. Outputs are float32, and
  /// the device may still be at work on them.
  ///
  /// - Parameters:
  ///   - name: a component of the model, or the model itself where `url` is a single component's folder; with
  ///     `.encode` or `.decode` behind it where the component has these.
  ///   - url: a model, or the folder of one component.
  ///   - device: where it computes.
  ///   - dtype: in which weights and activations are stored.
  ///
  /// Throws `CheckpointError`, `ModelError`, `WeightError`, `TensorError`, and so does what it returns.
  public static func load(
    _ name: String, of url: URL, on device: Device, as dtype: DType = .float32
  ) throws -> (_ inputs: URL) throws -> Outputs {
    let (row, opened) = try find(name, of: url)
    let call = try row.load(
      opened.configuration, Weights(opened.weights, on: device, as: dtype, component: component(name)))
    return { file in
      let inputs = ComponentInputs(try SafetensorsFile(url: file), on: device, as: dtype)
      let outputs = try call(inputs)
      try inputs.finish()
      return try outputs.map { (name: $0.name, tensor: try $0.tensor.cast(to: .float32)) }
    }
  }

  /// The gradient of the sum of a component's outputs times cotangents, at every parameter under the checkpoint's name
  /// and at every floating-point input under `input.` and its name, in the file's layouts. Those that no gradient
  /// arrives at are left out.
  ///
  /// - Parameters:
  ///   - name: as `load` takes it.
  ///   - url: a model, or the folder of one component.
  ///   - inputs: a file with the component's inputs.
  ///   - cotangents: a file with a tensor for each output that counts, under its name and of its shape.
  ///   - device: where it computes.
  ///   - dtype: in which weights and activations are stored; gradients are float32.
  ///   - scale: what the sum is multiplied by and the gradients are divided by; float16 underflows without.
  ///
  /// Throws as `load` does, and `GradientError`.
  public static func gradients(
    _ name: String, of url: URL, inputs: URL, cotangents: URL, on device: Device, as dtype: DType = .float32,
    scale: Float = 1
  ) throws -> (outputs: Outputs, gradients: Outputs) {
    let (row, opened) = try find(name, of: url)
    let tape = Tape()
    let parameters = WatchedWeights(opened.weights, by: tape)
    let call = try row.load(
      opened.configuration, Weights(parameters, on: device, as: dtype, component: component(name)))
    let variables = ComponentInputs(
      try SafetensorsFile(url: inputs), on: device, as: dtype, watchedBy: tape)
    let outputs = try call(variables).map { (name: $0.name, tensor: try $0.tensor.cast(to: .float32)) }
    try variables.finish()

    let weights = try SafetensorsFile(url: cotangents)
    let unknown = weights.names.filter { name in !outputs.contains { $0.name == name } }
    guard unknown.isEmpty else {
      throw CheckpointError.unknownTensors(path: cotangents.path, names: unknown.sorted())
    }
    var sum: Tensor?
    for (name, output) in outputs where weights.names.contains(name) {
      let cotangent = try weights.load(name, on: device).cast(to: .float32)
      guard cotangent.shape == output.shape else {
        throw CheckpointError.malformed(
          path: cotangents.path,
          reason: "the tensor '\(name)' is \(cotangent.shape), the output \(output.shape)")
      }
      let term = try (output * cotangent).reduced(.sum, axes: Array(0..<output.shape.rank)).reshaped([1])
      sum = try sum.map { try $0 + term } ?? term
    }
    guard let sum else {
      throw CheckpointError.malformed(
        path: cotangents.path,
        reason: "it has no tensor for an output: \(outputs.map(\.name).joined(separator: ", "))")
    }
    let leaves =
      parameters.parameters.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
      + variables.watched.sorted { $0.key < $1.key }.map { ("input." + $0.key, $0.value) }
    let gradients = try tape.gradients(of: sum, scale: scale, at: leaves.map(\.1))
    let found = try zip(leaves, gradients).compactMap { leaf, gradient in
      try gradient.map { (name: leaf.0, tensor: scale == 1 ? $0 : try $0 / scale) }
    }
    return (outputs.map { ($0.name, $0.tensor.untraced) }, found)
  }

  private static func component(_ name: String) -> String { String(name.prefix { $0 != "." }) }

  /// The row of a component's class, and the component's files.
  private static func find(_ name: String, of url: URL) throws -> (ComponentCall, Checkpoint.Component) {
    let component = component(name)
    let method = component == name ? nil : String(name.dropFirst(component.count + 1))
    guard !component.isEmpty else { throw CheckpointError.missingComponent(path: url.path, name: name) }
    let opened = try open(component, of: url)
    let known = all.filter { $0.className == opened.className }
    guard !known.isEmpty else {
      throw CheckpointError.unsupported(
        path: url.path, found: "\(component) \(opened.className)",
        supported: Set(all.map(\.className)).sorted())
    }
    guard let row = known.first(where: { $0.method == method }) else {
      throw CheckpointError.unsupported(
        path: url.path, found: "\(name) of a \(opened.className)",
        supported: known.map { component + ($0.method.map { ".\($0)" } ?? "") })
    }
    return (row, opened)
  }

  /// A component of a model; where there is no model_index.json, what the folder itself holds.
  private static func open(_ name: String, of url: URL) throws -> Checkpoint.Component {
    let files = FileManager.default
    let isSingle =
      !files.fileExists(atPath: url.appendingPathComponent("model_index.json").path)
      && files.fileExists(atPath: url.appendingPathComponent("config.json").path)
    return isSingle ? try ModelFolder.component(url) : try Checkpoint.open(url).component(name)
  }
}

extension Tensor {
  /// [N, spatial..., C] -> PyTorch's [N, C, spatial...].
  func channelsFirst() throws -> Tensor {
    let rank = shape.rank
    return try transposed([0, rank - 1] + Array(1..<max(rank - 1, 1)))
  }
}
