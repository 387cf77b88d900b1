import LangevinTensor

/// What a network takes beside the noisy latent and the timestep: one row an image.
public protocol NetworkInput {
  /// The rows of all, one after the other; there is at least one.
  ///
  /// Throws where the parts do not fit each other.
  static func joined(_ parts: [Self]) throws -> Self
}

extension Tensor: NetworkInput {
  /// Along the first axis. Throws `TensorError` where the other axes differ.
  public static func joined(_ parts: [Tensor]) throws -> Tensor { try concatenated(parts, axis: 0) }
}

extension Array: NetworkInput where Element: NetworkInput {
  /// For networks that are called for one row after the other.
  public static func joined(_ parts: [[Element]]) -> [Element] { parts.flatMap { $0 } }
}

/// What is drawn, and what is steered away from where guidance has something to steer away from.
public enum Conditioned<Input> {
  /// There is nothing to steer away from.
  case plain(Input)
  /// Both of as many rows.
  case guided(negative: Input, prompt: Input)

  /// Guided where there is a negative.
  public init(_ prompt: Input, negative: Input?) {
    self = negative.map { .guided(negative: $0, prompt: prompt) } ?? .plain(prompt)
  }

  /// What is drawn.
  public var prompt: Input {
    switch self {
    case .plain(let prompt), .guided(_, let prompt): prompt
    }
  }

  /// The negative, where there is one, and the prompt.
  public var all: [Input] {
    switch self {
    case .plain(let prompt): [prompt]
    case .guided(let negative, let prompt): [negative, prompt]
    }
  }

  /// The same of another kind.
  public func map<Other>(_ transform: (Input) throws -> Other) rethrows -> Conditioned<Other> {
    switch self {
    case .plain(let prompt): .plain(try transform(prompt))
    case .guided(let negative, let prompt):
      .guided(negative: try transform(negative), prompt: try transform(prompt))
    }
  }
}

extension Conditioned: Sendable where Input: Sendable {}

extension Conditioned where Input: NetworkInput {
  /// Of a batch of images, at least one.
  ///
  /// Throws `DiffusionError.mixedGuidance` where some have a negative and some have none.
  public static func joined(_ images: [Conditioned]) throws -> Conditioned {
    if images.count == 1 { return images[0] }
    let prompt = try Input.joined(images.map(\.prompt))
    let negatives = images.compactMap { image in
      if case .guided(let negative, _) = image { negative } else { nil }
    }
    if negatives.isEmpty { return .plain(prompt) }
    guard negatives.count == images.count else { throw DiffusionError.mixedGuidance }
    return .guided(negative: try Input.joined(negatives), prompt: prompt)
  }
}

/// The settings of classifier-free guidance.
public struct Guidance: Sendable, Hashable {
  /// The weight w of arXiv:2207.12598: 1 and less is the prompt alone.
  public var scale: Double
  /// phi of arXiv:2305.08891, eq. 16; 0 is off.
  public var rescale: Double
  /// In sigma / alpha: above its lower and up to its upper bound there is guidance. arXiv:2404.07724, eq. 6.
  public var interval: ClosedRange<Double>

  /// Guidance of this scale, by default at every level.
  public init(
    scale: Double, rescale: Double = 0, interval: ClosedRange<Double> = 0 ... .infinity
  ) {
    (self.scale, self.rescale, self.interval) = (scale, rescale, interval)
  }

  /// Whether there is anything to steer away from.
  public var isUsed: Bool { ClassifierFreeGuidance.isUsed(scale: scale) }

  /// A denoiser that guides where the conditioning has a negative and these settings ask for it.
  ///
  /// `bind` gives the network with an input inside. It is called once with the prompt's N rows and, where there is
  /// guidance, once with 2N rows of (negative, prompt). Where there is `halves`, it is called for these instead, such as
  /// `ClassifierFreeGuidance.split`. Throws what they throw.
  public func denoiser<Input: NetworkInput>(
    _ prediction: Prediction, on input: Conditioned<Input>,
    halves: ((_ negative: Input, _ prompt: Input) throws -> Network)? = nil,
    _ bind: (Input) throws -> Network
  ) throws -> any Denoiser {
    let plain = NetworkDenoiser(prediction, try bind(input.prompt))
    guard isUsed, case .guided(let negative, let prompt) = input else { return plain }
    let network = try halves.map { try $0(negative, prompt) } ?? bind(Input.joined([negative, prompt]))
    let guidance = ClassifierFreeGuidance(scale: scale, rescale: rescale, network)
    let guided = NetworkDenoiser(prediction) { x, timestep in try guidance(x, timestep) }
    return GuidanceInterval(guided, outside: plain, interval: interval)
  }
}
