import LangevinTensor
import Synchronization

/// A path into a checkpoint, from which layers load themselves:
/// `weights["down_blocks"][0]["resnets"][1]["norm1"]`.
///
/// All paths into one checkpoint share the record of what was loaded, so that `finish` can name what was not.
public struct Weights: Sendable {
  private let origin: Origin
  /// Dotted, without a dot at its end; empty at the root.
  public let path: String
  /// Whether blocks that are loaded from here keep their inputs alone for a backward pass, and are computed once more in
  /// it. They compute the same, and without a tape nothing changes.
  public var recomputes = false

  private struct Loaded: Sendable {
    var entries: [String: Parameters.Entry] = [:]
    var names: [String] = []
  }

  private final class Origin: Sendable {
    let source: any WeightSource
    let names: Set<String>
    let device: Device
    let dtype: DType
    let component: String
    let kept: KeptWeights?
    let used = Mutex<Set<String>>([])
    let loaded = Mutex(Loaded())

    init(
      _ source: any WeightSource, on device: Device, as dtype: DType, component: String, kept: KeptWeights?
    ) {
      self.kept = kept
      self.source = source
      self.names = Set(source.names)
      self.device = device
      self.dtype = dtype
      self.component = component
    }
  }

  /// The root of a checkpoint; parameters are stored on `device` as `dtype`, whatever the file has.
  ///
  /// `component` is what the network is called among others (`unet`): its layers' paths begin with it. What `kept` has of
  /// an earlier network of this source is not loaded again.
  public init(
    _ source: any WeightSource, on device: Device, as dtype: DType = .float32, component: String = "",
    keeping kept: KeptWeights? = nil
  ) {
    origin = Origin(source, on: device, as: dtype, component: component, kept: kept)
    path = ""
  }

  private init(_ origin: Origin, path: String, recomputes: Bool) {
    self.origin = origin
    self.path = path
    self.recomputes = recomputes
  }

  /// The path of the layer that loads itself from here, as `LayerPath` has it: the component's name, then `path`.
  public var layerPath: String {
    let component = origin.component
    return component.isEmpty ? path : path.isEmpty ? component : component + "." + path
  }

  /// How parameters, and hence activations, are stored.
  public var dtype: DType { origin.dtype }
  /// Where parameters are stored.
  public var device: Device { origin.device }

  /// The path one name further down; nothing is looked up yet.
  public subscript(name: String) -> Weights {
    Weights(origin, path: fullName(name), recomputes: recomputes)
  }
  /// The path one number further down, as in a list of layers.
  public subscript(index: Int) -> Weights { self[String(index)] }

  private func fullName(_ name: String) -> String { path.isEmpty ? name : path + "." + name }

  /// Whether there is a tensor of this name, or one below it.
  public func contains(_ name: String) -> Bool {
    let full = fullName(name)
    return origin.names.contains(full) || origin.names.contains { $0.hasPrefix(full + ".") }
  }

  /// The extent of a tensor along an axis. Throws `WeightError.missing` where there is no tensor or no axis.
  public func extent(of name: String, axis: Int) throws -> Int {
    let full = fullName(name)
    guard let shape = origin.source.spec(of: full)?.shape, axis < shape.rank else {
      throw WeightError.missing(name: full, source: origin.source.description)
    }
    return shape[axis]
  }

  // MARK: Loading

  /// A parameter of exactly this shape. Throws `WeightError`, and what reading and allocating throw.
  public func tensor(_ name: String, _ shape: Shape) throws -> Tensor {
    if case .tensor(let known)? = reused(name) { return known }
    let tensor = try tensor(name, anyOf: [shape])
    hold(name, .tensor(tensor))
    return tensor
  }

  /// Loads PyTorch's Linear weight [outputs, inputs], or the same as a 1x1 convolution [outputs, inputs, 1, 1].
  ///
  /// Throws as `tensor` does.
  public func linear(_ name: String = "weight", inputs: Int, outputs: Int) throws -> Weight {
    if case .weight(let known)? = reused(name) { return known }
    let shapes: [Shape] = [[outputs, inputs], [outputs, inputs, 1, 1]]
    if let blocks = try blocks(name, anyOf: shapes) { return blocks }
    let weight = try tensor(name, anyOf: shapes)
    let packed = try layer(layerPath) { try Weight(linear: weight.reshaped([outputs, inputs])) }
    hold(name, .weight(packed))
    return packed
  }

  /// Loads PyTorch's Conv2d weight [outputs, inputs, height, width], for a 1x1 kernel also [outputs, inputs].
  ///
  /// Throws as `tensor` does.
  public func convolution(_ name: String = "weight", inputs: Int, outputs: Int, kernel: Extent2D) throws
    -> Weight
  {
    if case .weight(let known)? = reused(name) { return known }
    let shape: Shape = [outputs, inputs, kernel.height, kernel.width]
    let isPointwise = kernel == Extent2D(height: 1, width: 1)
    let shapes = isPointwise ? [shape, [outputs, inputs]] : [shape]
    if let blocks = try blocks(name, anyOf: shapes) { return blocks }
    let weight = try tensor(name, anyOf: shapes)
    let packed = try layer(layerPath) { try Weight(convolution: weight.reshaped(shape)) }
    hold(name, .weight(packed))
    return packed
  }

  /// Loads PyTorch's Conv3d weight [outputs, inputs, frames, height, width] as one matrix a frame.
  ///
  /// Throws as `tensor` does.
  public func convolution3D(
    _ name: String = "weight", inputs: Int, outputs: Int, frames: Int, kernel: Extent2D
  ) throws -> [Weight] {
    if case .frames(let known)? = reused(name) { return known }
    let weight = try tensor(name, anyOf: [[outputs, inputs, frames, kernel.height, kernel.width]])
    let packed = try layer(layerPath) {
      let rows = try weight.reshaped([outputs * inputs, frames, kernel.height * kernel.width])
      return try (0..<frames).map {
        let tap = frames == 1 ? rows : try rows.sliced($0..<$0 + 1, axis: 1)
        return try Weight(convolution: tap.reshaped([outputs, inputs, kernel.height, kernel.width]))
      }
    }
    hold(name, .frames(packed))
    return packed
  }

  /// A weight as its source has it in blocks, in the first of the shapes; nil where it has each number by itself.
  private func blocks(_ name: String, anyOf shapes: [Shape]) throws -> Weight? {
    let full = fullName(name)
    // Sources that make their tensors up know none before its shape.
    guard origin.source.spec(of: full, expecting: shapes[0]) != nil,
      let encoding = origin.source.encoding(of: full)
    else { return nil }
    let spec = try checked(full, anyOf: shapes)
    let weight = try layer(layerPath) {
      let words = try origin.source.loadBlocks(full, on: origin.device)
      return try Weight(
        blocks: words, encoding, checkpointShape: shapes[0], arithmetic: origin.source.arithmetic(of: full))
    }
    note(Parameters.Entry(spec: TensorSpec(spec.shape), held: .weight(weight)), full)
    hold(name, .weight(weight))
    return weight
  }

  private func tensor(_ name: String, anyOf shapes: [Shape]) throws -> Tensor {
    let full = fullName(name)
    _ = try checked(full, anyOf: shapes)
    let tensor = try layer(layerPath) {
      try origin.source.load(full, on: origin.device).cast(to: origin.dtype)
    }
    note(Parameters.Entry(spec: tensor.spec, held: .tensor(tensor)), full)
    return tensor
  }

  /// What the source has of a parameter, which then counts as loaded.
  private func checked(_ full: String, anyOf shapes: [Shape]) throws -> TensorSpec {
    let source = origin.source
    guard let spec = source.spec(of: full, expecting: shapes[0]) else {
      if origin.names.contains(full) {
        throw WeightError.unsupportedDType(name: full, source: source.description)
      }
      throw WeightError.missing(name: full, source: source.description)
    }
    guard spec.dtype.isFloatingPoint else {
      throw WeightError.unsupportedDType(name: full, source: source.description)
    }
    guard shapes.contains(spec.shape) else {
      throw WeightError.wrongShape(
        name: full, expected: shapes[0], got: spec.shape, source: source.description)
    }
    origin.used.withLock { _ = $0.insert(full) }
    return spec
  }

  /// The form in which a parameter is held, which may be another than it was read in.
  private func hold(_ name: String, _ held: Parameters.Held) {
    let full = fullName(name)
    let entry = origin.loaded.withLock { loaded in
      loaded.entries[full]?.held = held
      return loaded.entries[full]
    }
    origin.kept?[full] = entry
  }

  /// What is kept of a parameter, which then counts as loaded.
  private func reused(_ name: String) -> Parameters.Held? {
    let full = fullName(name)
    guard let entry = origin.kept?[full] else { return nil }
    origin.used.withLock { _ = $0.insert(full) }
    note(entry, full)
    return entry.held
  }

  private func note(_ entry: Parameters.Entry, _ full: String) {
    origin.loaded.withLock { loaded in
      if loaded.entries[full] == nil { loaded.names.append(full) }
      loaded.entries[full] = entry
    }
  }

  /// What was loaded so far at and below this path, under its full names.
  public var parameters: Parameters {
    let loaded = origin.loaded.withLock { $0 }
    let names = loaded.names.filter { isBelow($0) }
    return Parameters(
      loaded.entries.filter { isBelow($0.key) }, names: names, of: origin.source.description)
  }

  // MARK: Completeness

  /// Marks everything at and below this path as known but not wanted, so that `finish` does not name it.
  public func skip() {
    let skipped = origin.names.filter { isBelow($0) }
    origin.used.withLock { $0.formUnion(skipped) }
  }

  /// Throws `WeightError.unused` if the checkpoint has tensors at or below this path that nothing loaded.
  ///
  /// `buffers` are names relative to this path that some writers store and no model needs.
  public func finish(ignoring buffers: Set<String> = []) throws {
    let ignored = Set(buffers.map(fullName))
    let used = origin.used.withLock { $0 }
    let unused = origin.names.filter { isBelow($0) && !used.contains($0) && !ignored.contains($0) }
    if !unused.isEmpty {
      throw WeightError.unused(names: unused.sorted(), source: origin.source.description)
    }
  }

  private func isBelow(_ name: String) -> Bool {
    path.isEmpty || name == path || name.hasPrefix(path + ".")
  }
}
