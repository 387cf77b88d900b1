import Foundation
import LangevinTensor

/// PyTorch's CUDA generator and what `torch.randn(device="cuda")` makes of it.
///
/// cuRAND's Philox 4x32-10: thread i's numbers come from the counter (draws before, 0, i, 0) with the seed as
/// key, and a call takes one block per thread. Holds while a tensor's element has a thread of its own, as in
/// every tool that imitates this: PyTorch launches as many threads as the GPU can hold at once (10^5 or more on
/// those in use), beyond which a thread makes several elements. One image's latent up to 1024 x 1024 pixels
/// (4 channels, 1/8 size) has 65,536 elements. GPUs compute the sine and logarithm approximately, so agreement
/// with one is to about 1e-6.
public struct TorchCUDAGenerator: Sendable {
  /// As given to torch.manual_seed.
  public let seed: UInt64
  private var draws: UInt32 = 0

  /// A generator that has drawn nothing yet.
  public init(seed: UInt64) { self.seed = seed }

  /// The float32 numbers of `torch.randn(count, device="cuda")`.
  public mutating func normals(_ count: Int) -> [Float] {
    let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    let values = (0..<count).map { index in
      let words = NoiseFunction.philox(
        counter: SIMD4(draws, 0, UInt32(truncatingIfNeeded: index), 0), key: key)
      return boxMuller(words.x, words.y)
    }
    draws &+= 1
    return values
  }

  /// cuRAND's transform; of its pair PyTorch's first element is the sine.
  private func boxMuller(_ x: UInt32, _ y: UInt32) -> Float {
    let unit: Float = 0x1p-32
    let turn = Float(2 * Double.pi) * unit
    let u = (unit / 2).addingProduct(Float(x), unit)
    let angle = (turn / 2).addingProduct(Float(y), turn)
    let radius = (-2 * Float(log(Double(u)))).squareRoot()
    return radius * Float(sin(Double(angle)))
  }
}
