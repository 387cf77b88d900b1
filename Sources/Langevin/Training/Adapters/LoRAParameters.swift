import LangevinNN
import LangevinTensor

/// The parameters of new low-rank adapters at a network's linear layers (arXiv:2106.09685): for each layer `lora_A.weight`
/// [rank, inputs] and `lora_B.weight` [outputs, rank], which add (alpha / rank) B A to its weight. As a source of weights
/// they are what training begins from, the same for the same seed on every device; `AdaptedWeights` puts them, or tensors
/// that a tape watches in their place, beside the frozen network.
public final class LoRAParameters: WeightSource {
  /// The projections of attention: what diffusers' LoRA scripts train of a UNet.
  public static let unetTargets = ["to_k", "to_q", "to_v", "to_out.0"]
  /// What they train of a CLIP text encoder.
  public static let textTargets = ["q_proj", "k_proj", "v_proj", "out_proj"]

  /// Columns of A, rows of B.
  public let rank: Int
  /// Divided by the rank it is the scale.
  public let alpha: Float
  /// Whole names of layers, or their ends.
  public let targets: [String]
  /// A and B of each layer, in the network's order.
  public let names: [String]
  /// The layers' names, without `weight`.
  public let layers: [String]
  private let shapes: [String: Shape]
  private let seed: UInt64

  /// - Parameters:
  ///   - base: the network's checkpoint.
  ///   - targets: layers by their whole names or what those end in after a dot, as PEFT has it.
  ///   - rank: at least 1.
  ///   - alpha: by default the rank, which makes the scale 1.
  ///   - seed: of the initial values.
  ///
  /// Throws `AdapterError.noLayer` for a target that is no layer's, and `.notLinear` for one that is a convolution's or
  /// a norm's.
  public init(
    of base: any WeightSource, targets: [String] = LoRAParameters.unetTargets, rank: Int, alpha: Float? = nil,
    seed: UInt64
  ) throws {
    precondition(rank > 0)
    (self.rank, self.targets, self.seed) = (rank, targets, seed)
    self.alpha = alpha ?? Float(rank)
    let all = base.names.filter { $0.hasSuffix(".weight") }.map { String($0.dropLast(".weight".count)) }
    func isMeant(_ layer: String, _ target: String) -> Bool {
      layer == target || layer.hasSuffix("." + target)
    }
    for target in targets where !all.contains(where: { isMeant($0, target) }) {
      throw AdapterError.noLayer(pattern: target, source: base.description)
    }
    layers = all.filter { layer in targets.contains { isMeant(layer, $0) } }
    var shapes: [String: Shape] = [:]
    var names: [String] = []
    for layer in layers {
      let shape = base.spec(of: "\(layer).weight")?.shape ?? []
      // A 1x1 convolution over pixels is a linear layer.
      guard shape.rank == 2 || (shape.rank == 4 && shape[2] == 1 && shape[3] == 1) else {
        throw AdapterError.notLinear(layer: layer, shape: shape, source: base.description)
      }
      let ones = shape.dimensions.dropFirst(2)
      let added = ["\(layer).lora_A.weight", "\(layer).lora_B.weight"]
      shapes[added[0]] = Shape([rank, shape[1]] + ones)
      shapes[added[1]] = Shape([shape[0], rank] + ones)
      names += added
    }
    (self.shapes, self.names) = (shapes, names)
  }

  /// For messages.
  public var description: String { "new adapters of rank \(rank)" }

  /// Float32.
  public func spec(of name: String) -> TensorSpec? { shapes[name].map { TensorSpec($0, .float32) } }

  /// B is zero, so that training begins at the network as it is; A is uniform within 1 / sqrt(inputs), which is PEFT's
  /// `kaiming_uniform_` with a = sqrt(5). Throws `WeightError.missing`.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    guard let shape = shapes[name] else { throw WeightError.missing(name: name, source: description) }
    guard name.hasSuffix("lora_A.weight") else { return try Tensor.fill(0, shape, on: device) }
    // Of the layer's name, so that a layer begins alike whichever others have adapters.
    let hash = FNV.hash(name.utf8)
    let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    let bound = 1 / Float(shape[1]).squareRoot()
    let count = shape.count
    var values: [Float] = []
    values.reserveCapacity(count + 3)
    for block in 0..<UInt32((count + 3) / 4) {
      let words = NoiseFunction.philox(
        counter: SIMD4(
          block, UInt32(truncatingIfNeeded: hash), UInt32(truncatingIfNeeded: hash >> 32), 0x4C6F_5241),
        key: key)
      // The upper 24 bits, at the middle of their interval.
      for i in 0..<4 { values.append((Float(words[i] >> 8) * 0x1p-23 + 0x1p-24 - 1) * bound) }
    }
    return try Tensor(Array(values.prefix(count)), shape, on: device)
  }

  /// Values of these parameters as layers of a component, to be written (`LoRAFile.write`). Throws what `values` throws.
  public func layers(of component: String, _ values: any WeightSource, on device: Device) throws
    -> [LoRALayer]
  {
    try layers.map { layer in
      LoRALayer(
        component: component, name: layer, down: try values.load("\(layer).lora_A.weight", on: device),
        up: try values.load("\(layer).lora_B.weight", on: device), alpha: alpha)
    }
  }
}
