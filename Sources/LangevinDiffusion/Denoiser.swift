import LangevinTensor

/// Guesses the clean latent within a noisy one: the one contract that samplers know.
public protocol Denoiser {
  /// E[x0 | x]; `x` and the result are float32 [N, ..., C].
  func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor
}

/// A network as sampling sees it, with its conditioning inside: float32 x [N, ..., C] and a timestep to an
/// output of x's shape in any floating-point dtype.
public typealias Network = (_ x: Tensor, _ timestep: Float) throws -> Tensor

/// What a network's output means.
public enum Prediction: String, Sendable, CaseIterable, Decodable {
  /// The noise; arXiv:2006.11239.
  case epsilon
  /// `alpha * noise - sigma * x0`; arXiv:2202.00512, appendix D.
  case v = "v_prediction"
  /// The clean latent.
  case sample
  /// `noise - x0`; arXiv:2209.03003.
  case flow = "flow_prediction"

  /// The factors of x and of the output whose sum is the denoised latent.
  ///
  /// Throws `DiffusionError.noSignal` for epsilon where alpha is 0.
  func coefficients(_ level: NoiseLevel) throws -> (x: Double, output: Double) {
    switch self {
    case .epsilon:
      guard level.alpha > 0 else { throw DiffusionError.noSignal(timestep: level.timestep) }
      return (1 / level.alpha, -level.sigma / level.alpha)
    case .v: return (level.alpha, -level.sigma)
    case .sample: return (0, 1)
    case .flow: return (1 / (level.alpha + level.sigma), -level.sigma / (level.alpha + level.sigma))
    }
  }
}

/// A network and what its output means.
public struct NetworkDenoiser: Denoiser {
  /// What the output means.
  public var prediction: Prediction
  /// Called once a step.
  public var network: Network

  /// A denoiser from a network that was trained to predict this.
  public init(_ prediction: Prediction, _ network: @escaping Network) {
    self.prediction = prediction
    self.network = network
  }

  /// One call of the network. Throws `DiffusionError.noSignal`, and what the network throws.
  public func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    let factors = try prediction.coefficients(level)
    let output = try network(x, level.timestep).cast(to: .float32)
    if prediction == .sample { return output }
    return try Tensor.combination([(Float(factors.x), x), (Float(factors.output), output)])
  }
}

/// Keeps another denoiser's guess within -limit...limit (`clip_sample`), for models of pixels.
public struct Clipped<Base: Denoiser>: Denoiser {
  /// The denoiser whose guess is clipped.
  public var base: Base
  /// In the latent's own units.
  public var limit: Float

  /// Clips to -limit...limit.
  public init(_ base: Base, limit: Float = 1) {
    self.base = base
    self.limit = limit
  }

  /// The base's guess, clipped. Throws what the base throws.
  public func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    try base.denoised(x, at: level).clamped(-limit, limit)
  }
}
