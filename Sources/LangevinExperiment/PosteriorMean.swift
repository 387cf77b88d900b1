import Foundation
import LangevinDiffusion
import LangevinTensor

/// The optimal denoiser of a finite data set: E[x0 | x] = sum_i w_i x_i, where w is the softmax over the data points
/// of `log p_i - |x - alpha x_i|^2 / (2 sigma^2)` (arXiv:2206.00364, appendix B.3). It needs no training.
struct PosteriorMean: Denoiser {
  /// The data, float32 [N, 2].
  private let points: Tensor
  /// The data's coordinates, [1, N] each.
  private let coordinates: (x: Tensor, y: Tensor)
  /// log p, [1, N]; nil where all are equally likely.
  private let logWeights: Tensor?

  /// `weights` are positive and need not sum to 1.
  init(_ data: [Vector], weights: [Double]? = nil, on device: Device) throws {
    points = try Tensor(data.flatMap { [Float($0.x), Float($0.y)] }, [data.count, 2], on: device)
    coordinates = (
      try Tensor(data.map { Float($0.x) }, [1, data.count], on: device),
      try Tensor(data.map { Float($0.y) }, [1, data.count], on: device)
    )
    logWeights = try weights.map { try Tensor($0.map { Float(log($0)) }, [1, data.count], on: device) }
  }

  /// The mean of the data given noisy points; `x` is float32 [..., 2].
  func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    let rows = try x.reshaped([-1, 2])
    // The differences are squared, not the coordinates: near a data point nothing large cancels, and the softmax
    // takes off the greatest logarithm before it raises to a power.
    func squared(_ axis: Int, _ data: Tensor) throws -> Tensor {
      try (rows.sliced(axis..<axis + 1, axis: 1) - data * Float(level.alpha)).map(.square)
    }
    let factor = Float(-0.5 / (level.sigma * level.sigma))
    var logits = try Tensor.combination([
      (factor, squared(0, coordinates.x)), (factor, squared(1, coordinates.y)),
    ])
    if let logWeights { logits = try logits + logWeights }
    return try logits.softmax().matmul(points).reshaped(x.shape)
  }
}

/// Captioned data as a network sees it that was trained on them: the timestep says how much noise there is, and each
/// image of the batch has its own condition.
struct CaptionedNetwork {
  /// One an image, or for as many images in a row as the batch has more.
  var conditions: [PosteriorMean]
  /// Of the chain, by timestep.
  var alphasCumprod: [Float]

  /// The denoised x [N, ..., 2], in the order of the conditions.
  func callAsFunction(_ x: Tensor, _ timestep: Float) throws -> Tensor {
    let level = NoiseLevel(timestep: timestep, alphaCumprod: alphasCumprod[Int(timestep)])
    let count = x.shape[0] / conditions.count
    let parts = try conditions.enumerated().map { index, condition in
      try condition.denoised(x.rows(index * count..<(index + 1) * count), at: level)
    }
    return try Tensor.concatenated(parts, axis: 0)
  }
}
