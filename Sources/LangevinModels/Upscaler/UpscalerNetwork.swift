import LangevinNN
import LangevinTensor

/// The kind and size of an upscaler's network.
public enum UpscalerConfig: Sendable, Hashable {
  case rrdbNet(RRDBNetConfig)
  case compact(SRVGGNetCompactConfig)

  /// What the names and shapes of a file's tensors tell. No tensor is read.
  ///
  /// Throws `ModelError.unknownArchitecture`.
  public init(_ source: any WeightSource) throws {
    let names = Set(source.names)
    if let config = RRDBNetConfig(source, names) {
      self = .rrdbNet(config)
    } else if let config = SRVGGNetCompactConfig(source, names) {
      self = .compact(config)
    } else {
      throw ModelError.unknownArchitecture(
        source: source.description, role: "an upscaler",
        known: [
          "RRDBNet (conv_first, body.0.rdb1.conv1, …, or model.0, model.1.sub.0.RDB1.conv1.0, …)",
          "SRVGGNetCompact (body.0, body.1, …)",
        ])
    }
  }

  /// How many times as wide and as high a picture becomes.
  public var scale: Int {
    switch self {
    case .rrdbNet(let config): config.scale
    case .compact(let config): config.scale
    }
  }

  /// Height and width of a picture must be multiples of this.
  public var multiple: Int {
    if case .rrdbNet(let config) = self { config.unshuffle } else { 1 }
  }

  /// How far a pixel of the picture reaches, in pixels: what is farther away from a pixel does not change
  /// what it becomes.
  public var reach: Int {
    switch self {
    case .rrdbNet(let config): config.reach
    case .compact(let config): config.reach
    }
  }
}

/// A network that enlarges pictures.
public enum UpscalerNetwork: Sendable {
  case rrdbNet(RRDBNet)
  case compact(SRVGGNetCompact)

  /// Reads the weights under basicsr's names. Throws `WeightError` where one is missing or has another shape.
  public init(_ config: UpscalerConfig, _ weights: Weights) throws {
    switch config {
    case .rrdbNet(let config): self = .rrdbNet(try RRDBNet(config, weights))
    case .compact(let config): self = .compact(try SRVGGNetCompact(config, weights))
    }
  }

  /// Picture [N, H, W, 3] in 0...1 -> [N, scale H, scale W, 3], about 0...1 and not clamped.
  ///
  /// Height and width are multiples of `UpscalerConfig.multiple`. Throws `TensorError`.
  public func callAsFunction(_ picture: Tensor) throws -> Tensor {
    switch self {
    case .rrdbNet(let network): try network(picture)
    case .compact(let network): try network(picture)
    }
  }
}

// MARK: Names and shapes

extension WeightSource {
  /// [outputs, inputs] of a 3x3 convolution's weight.
  fileprivate func convolution(_ name: String) -> (outputs: Int, inputs: Int)? {
    guard let shape = spec(of: name + ".weight")?.shape, shape.rank == 4, shape[2] == 3, shape[3] == 3,
      shape[0] > 0, shape[1] > 0
    else { return nil }
    return (shape[0], shape[1])
  }
}

/// The root of `count / 3` where that is a whole number of at most `limit`.
private func side(ofColours count: Int, limit: Int) -> Int? { (1...limit).first { 3 * $0 * $0 == count } }

extension RRDBNetConfig {
  fileprivate init?(_ source: any WeightSource, _ names: Set<String>) {
    guard let first = source.convolution("conv_first"), let last = source.convolution("conv_last"),
      let dense = source.convolution("body.0.rdb1.conv1"), last.outputs == 3,
      let unshuffle = side(ofColours: first.inputs, limit: 4), unshuffle != 3
    else { return nil }
    blocks = (0...names.count).first { !names.contains("body.\($0).rdb1.conv1.weight") } ?? 0
    (features, growth) = (first.outputs, dense.outputs)
    scale = 4 / unshuffle
  }
}

extension SRVGGNetCompactConfig {
  fileprivate init?(_ source: any WeightSource, _ names: Set<String>) {
    // A convolution, an activation, and so on, and a convolution at the end.
    let count = (0...names.count).first { !names.contains("body.\($0).weight") } ?? 0
    guard count >= 3, count % 2 == 1, let first = source.convolution("body.0"), first.inputs == 3,
      source.spec(of: "body.1.weight")?.shape == [first.outputs],
      let last = source.convolution("body.\(count - 1)"),
      let scale = side(ofColours: last.outputs, limit: 8)
    else { return nil }
    convolutions = (count - 3) / 2
    features = first.outputs
    self.scale = scale
  }
}
