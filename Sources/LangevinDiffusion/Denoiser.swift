import LangevinTensor

/// Guesses the clean latent within a noisy one: the one contract that samplers know.
///
/// Conforming types need `denoised` only. Those that also know how much noise a step of the training's chain
/// should add, per element, say so in `guess`; the one sampler that adds it asks for that, all others are
/// content with `denoised`.
public protocol Denoiser {
  /// E[x0 | x]; `x` and the result are float32 [N, ..., C].
  func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor
  /// E[x0 | x], and what else was learned.
  func guess(_ x: Tensor, at level: NoiseLevel) throws -> Guess
}

extension Denoiser {
  /// What `denoised` returns, without a learned variance.
  public func guess(_ x: Tensor, at level: NoiseLevel) throws -> Guess {
    Guess(denoised: try denoised(x, at: level))
  }
}

/// What a denoiser makes of a noisy latent.
public struct Guess: Sendable {
  /// E[x0 | x], float32 [N, ..., C].
  public var denoised: Tensor
  /// Where the variance of a step of the chain lies between the posterior's (-1) and the chain's own (1), in
  /// its logarithm: 2 v - 1 of arXiv:2102.09672, eq. 15. Float32 [N, ..., C]; nil where it was not learned.
  public var varianceMix: Tensor?

  /// By default nothing is known of the variance.
  public init(denoised: Tensor, varianceMix: Tensor? = nil) {
    self.denoised = denoised
    self.varianceMix = varianceMix
  }
}

/// A network as sampling sees it, with its conditioning inside: float32 x [N, ..., C] and a timestep to an
/// output of x's shape in any floating-point dtype. A network that has learned its variance returns [N, ...,
/// 2C], the mean's channels first.
public typealias Network = (_ x: Tensor, _ timestep: Float) throws -> Tensor

/// What a network's output means.
public enum Prediction: String, Sendable, CaseIterable {
  /// The network predicts the noise; arXiv:2006.11239.
  case epsilon
  /// `alpha * noise - sigma * x0`; arXiv:2202.00512, appendix D.
  case v = "v_prediction"
  /// The network predicts the clean latent.
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
  /// Called once a guess.
  public var network: Network

  /// A denoiser from a network that was trained to predict this.
  public init(_ prediction: Prediction, _ network: @escaping Network) {
    self.prediction = prediction
    self.network = network
  }

  /// One call of the network. Throws `DiffusionError.noSignal`, and what the network throws.
  public func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    try guess(x, at: level).denoised
  }

  /// One call of the network, whose second half of channels, where it has one, is the variance's mix.
  public func guess(_ x: Tensor, at level: NoiseLevel) throws -> Guess {
    let factors = try prediction.coefficients(level)
    let (output, mix) = try network(x, level.timestep).cast(to: .float32).splittingVariance(of: x)
    if prediction == .sample { return Guess(denoised: output, varianceMix: mix) }
    let denoised = try Tensor.combination([(Float(factors.x), x), (Float(factors.output), output)])
    return Guess(denoised: denoised, varianceMix: mix)
  }
}

extension Tensor {
  /// A network's output for x as its mean and, where it has twice x's channels, its variance's half.
  func splittingVariance(of x: Tensor) throws -> (mean: Tensor, variance: Tensor?) {
    let channels = x.shape[-1]
    guard shape[-1] == 2 * channels else { return (self, nil) }
    return (
      try sliced(0..<channels, axis: -1), try sliced(channels..<2 * channels, axis: -1)
    )
  }
}
