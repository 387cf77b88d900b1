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
    let parts = name.split(separator: ".", maxSplits: 1).map(String.init)
    guard let component = parts.first else {
      throw CheckpointError.missingComponent(path: url.path, name: name)
    }
    let method = parts.count > 1 ? parts[1] : nil
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
    let call = try row.load(
      opened.configuration, Weights(opened.weights, on: device, as: dtype, component: component))
    return { file in
      let inputs = ComponentInputs(try SafetensorsFile(url: file), on: device, as: dtype)
      let outputs = try call(inputs)
      try inputs.finish()
      return try outputs.map { (name: $0.name, tensor: try $0.tensor.cast(to: .float32)) }
    }
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
