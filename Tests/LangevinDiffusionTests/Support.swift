import Foundation
import LangevinCPU
import LangevinDiffusion
import LangevinTensor
import Testing

let cpu = Device(CPUBackend())

/// A golden file of Tests/Golden/Fixtures/samplers, made by make_samplers.py.
func fixture<T: Decodable>(_ name: String, as type: T.Type = T.self) throws -> T {
  let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  let file = tests.appendingPathComponent("Golden/Fixtures/samplers/\(name)")
  return try JSONDecoder().decode(T.self, from: Data(contentsOf: file))
}

/// [N, C, H, W] values as a channels-last tensor.
func channelsLast(_ values: [Float], _ shape: [Int]) throws -> Tensor {
  let (n, c, h, w) = (shape[0], shape[1], shape[2], shape[3])
  var result: [Float] = []
  for image in 0..<n {
    for place in 0..<h * w {
      for channel in 0..<c { result.append(values[(image * c + channel) * h * w + place]) }
    }
  }
  return try Tensor(result, [n, h, w, c], on: cpu)
}

/// The network of make_samplers.py, in double precision between float32 ends.
@Sendable func goldenNetwork(_ x: Tensor, _ t: Float) throws -> Tensor {
  let values = try x.floats().map { Float(0.5 * Double($0) + 0.2 * sin(2 * Double($0) + Double(t) / 100)) }
  return try Tensor(values, x.shape, on: x.device)
}

/// Its output and, as further channels, its variance's mix.
@Sendable func learnedNetwork(_ x: Tensor, _ t: Float) throws -> Tensor {
  let mix = try x.floats().map { Float(sin(3 * Double($0) + Double(t) / 50)) }
  return try Tensor.concatenated([goldenNetwork(x, t), Tensor(mix, x.shape, on: x.device)], axis: -1)
}

/// The largest difference over the largest value.
func relativeError(_ a: [Float], _ b: [Float]) -> Float {
  guard a.count == b.count else { return .infinity }
  let scale = b.map(abs).max() ?? 0
  var worst: Float = 0
  for (x, y) in zip(a, b) {
    if !x.isFinite { return .infinity }
    worst = max(worst, abs(x - y))
  }
  return worst / scale
}

func largestDifference(_ a: [Float], _ b: [Float]) -> Float {
  guard a.count == b.count else { return .infinity }
  return zip(a, b).map { $0.isFinite ? abs($0 - $1) : .infinity }.max() ?? 0
}

/// The exact denoiser of data that are independent N(mean, deviation^2): E[x0 | x].
struct GaussianDenoiser: Denoiser {
  var mean = 0.4
  var deviation = 0.7

  func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    let variance = deviation * deviation
    let gain = level.alpha * variance / spread2(level)
    return try x.affine(scale: Float(gain), offset: Float(mean * (1 - gain * level.alpha)))
  }

  /// Variance of x at this level.
  func spread2(_ level: NoiseLevel) -> Double {
    level.alpha * level.alpha * deviation * deviation + level.sigma * level.sigma
  }

  /// Where the probability flow carries x from one level to another: (x - alpha mean) / spread is constant.
  func flow(_ x: Float, from: NoiseLevel, to: NoiseLevel) -> Double {
    to.alpha * mean + (Double(x) - from.alpha * mean) * (spread2(to) / spread2(from)).squareRoot()
  }
}
