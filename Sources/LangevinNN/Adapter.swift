import LangevinTensor

/// A low-rank addition to a linear layer or a convolution, `scale (x A) B`. arXiv:2106.09685, equation 3.
///
/// A checkpoint has it beside the layer's `weight`: `lora_A.weight` [rank, inputs], with a convolution's
/// kernel behind, and `lora_B.weight` [outputs, rank] as PEFT names them, and `lora_alpha` [], which divided
/// by the rank is the scale; without it the scale is 1.
///
/// A class, since most layers have none and should stay small.
final class Adapter: Sendable {
  /// A.
  private let down: Weight
  /// B.
  private let up: Weight
  private let scale: Float

  /// Nil where the checkpoint has none for this layer; `kernel` is a convolution's. Throws `WeightError`.
  init?(_ weights: Weights, inputs: Int, outputs: Int, kernel: Extent2D? = nil) throws {
    guard weights.contains("lora_A") else { return nil }
    let rank = try weights.extent(of: "lora_A.weight", axis: 0)
    down =
      if let kernel {
        try weights["lora_A"].convolution(inputs: inputs, outputs: rank, kernel: kernel)
      } else { try weights["lora_A"].linear(inputs: inputs, outputs: rank) }
    up = try weights["lora_B"].linear(inputs: rank, outputs: outputs)
    let alpha =
      try weights.contains("lora_alpha") ? weights.tensor("lora_alpha", []).untraced.floats()[0] : Float(rank)
    scale = alpha / Float(rank)
  }

  /// `activation(y + scale (x A) B)`, where `product` is the layer's product of x with a weight.
  func callAsFunction(
    addedTo y: Tensor, activation: Activation, product: (Weight) throws -> Tensor
  ) throws -> Tensor {
    try product(down).matmul(up, scale: scale, residual: y, activation: activation)
  }
}

/// A checkpoint with adapters beside its layers, which `Linear` finds by their names.
public final class AdaptedWeights: WeightSource {
  private let base: any WeightSource
  private let adapters: any WeightSource
  private let prefix: String
  private let alpha: Float?
  /// Full names by the layer's path.
  private let adapterNames: [String: String]

  /// The adapters' names begin with `prefix` and go on as the base's (`unet.`, as diffusers writes them).
  /// Every layer's scale is `alpha` divided by its rank; nil makes it 1.
  public init(_ base: any WeightSource, adapters: any WeightSource, prefix: String = "", alpha: Float? = nil)
  {
    (self.base, self.adapters, self.prefix, self.alpha) = (base, adapters, prefix, alpha)
    adapterNames = Dictionary(
      uniqueKeysWithValues: adapters.names.filter { $0.hasPrefix(prefix) }.map {
        (String($0.dropFirst(prefix.count)), $0)
      })
  }

  /// The base's, the adapters', and an alpha for each adapter where there is one.
  public var names: [String] {
    let alphas = alpha == nil ? [] : adapterNames.keys.compactMap { AdaptedWeights.alphaName($0) }
    return base.names + adapterNames.keys + alphas
  }

  /// `layer.lora_alpha` of `layer.lora_A.weight`.
  private static func alphaName(_ name: String) -> String? {
    name.hasSuffix(".lora_A.weight") ? String(name.dropLast("lora_A.weight".count)) + "lora_alpha" : nil
  }

  /// Of the base or an adapter.
  public func spec(of name: String) -> TensorSpec? {
    if let full = adapterNames[name] { return adapters.spec(of: full) }
    if alpha != nil, name.hasSuffix(".lora_alpha") { return TensorSpec([]) }
    return base.spec(of: name)
  }

  /// The base's; adapters are not in blocks.
  public func encoding(of name: String) -> BlockEncoding? {
    adapterNames[name] == nil ? base.encoding(of: name) : nil
  }
  /// The base's.
  public func arithmetic(of name: String) -> ProductArithmetic { base.arithmetic(of: name) }
  /// The base's.
  public func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    try base.loadBlocks(name, on: device)
  }

  /// From the base or an adapter.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    if let full = adapterNames[name] { return try adapters.load(full, on: device) }
    if let alpha, name.hasSuffix(".lora_alpha") { return try Tensor.fill(alpha, [], on: device) }
    return try base.load(name, on: device)
  }

  /// Both.
  public var description: String { "\(base.description) with \(adapters.description)" }
}
