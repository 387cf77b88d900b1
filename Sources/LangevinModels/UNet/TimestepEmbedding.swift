import LangevinNN
import LangevinTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Sinusoids of the timestep through a two-layer perceptron. arXiv:2006.11239, appendix B.
struct TimestepEmbedding: Sendable {
  let perceptron: EmbeddingPerceptron
  /// Of a vector that is added to the sinusoids: the guidance that a distilled network imitates (arXiv:2210.03142).
  let conditionProjection: Linear?
  let sinusoid: Sinusoid
  let dtype: DType
  let device: Device
  let path: String

  init(_ weights: Weights, sinusoid: Sinusoid, outputs: Int, conditionChannels: Int? = nil) throws {
    path = weights.layerPath
    perceptron = try EmbeddingPerceptron(weights, inputs: sinusoid.channels, outputs: outputs)
    conditionProjection = try conditionChannels.map {
      try Linear(weights["cond_proj"], inputs: $0, outputs: sinusoid.channels, bias: false)
    }
    self.sinusoid = sinusoid
    (dtype, device) = (weights.dtype, weights.device)
  }

  /// One timestep an image, condition [N, conditionChannels] -> `activation(embedding + residual)` [N, outputs].
  func callAsFunction(
    _ timesteps: [Float], condition: Tensor? = nil, residual: Tensor? = nil, activation: Activation = .silu
  ) throws -> Tensor {
    let values = timesteps.flatMap { sinusoid($0) }
    return try layer(path) {
      var x = try Tensor(values, [timesteps.count, sinusoid.channels], on: device).cast(to: dtype)
      if let condition, let conditionProjection { x = try conditionProjection(condition, residual: x) }
      return try perceptron(x, residual: residual, activation: activation)
    }
  }
}

/// Linear, SiLU, Linear: how vectors of any kind join the time embedding.
struct EmbeddingPerceptron: Sendable {
  let linear1: Linear
  let linear2: Linear

  init(_ weights: Weights, inputs: Int, outputs: Int) throws {
    linear1 = try Linear(weights["linear_1"], inputs: inputs, outputs: outputs)
    linear2 = try Linear(weights["linear_2"], inputs: outputs, outputs: outputs)
  }

  /// [N, inputs] -> `activation(perceptron(x) + residual)` [N, outputs].
  func callAsFunction(_ x: Tensor, residual: Tensor? = nil, activation: Activation = .identity) throws
    -> Tensor
  {
    try linear2(linear1(x, activation: .silu), residual: residual, activation: activation)
  }
}

/// `sin(t f_i)` and `cos(t f_i)` with `f_i = 10000^(-i / (channels / 2 - shift))`.
struct Sinusoid: Sendable, Hashable {
  var channels: Int
  /// The cosines come first.
  var flipped: Bool
  var shift: Double

  /// The frequencies are rounded to float32 where the reference rounds them: at timestep 999 one unit in the
  /// last place of a frequency is 6e-5 of an angle.
  func callAsFunction(_ timestep: Float) -> [Float] {
    let half = channels / 2
    let angles = (0..<half).map { i in
      let exponent = Float(-log(10000.0)) * Float(i) / Float(Double(half) - shift)
      return Double(timestep * Float(exp(Double(exponent))))
    }
    let sines = angles.map { Float(sin($0)) }
    let cosines = angles.map { Float(cos($0)) }
    return flipped ? cosines + sines : sines + cosines
  }
}
