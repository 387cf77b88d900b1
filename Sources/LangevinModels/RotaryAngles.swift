import LangevinTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// By how much each token of a grid is turned, where each of its axes has some of a head's channels. arXiv:2104.09864,
/// with neighbouring channels as pairs. Tables are computed in float64 and rounded to float32.
struct RotaryAngles: Sendable {
  /// [T, headSize / 2].
  let cosines: Tensor
  let sines: Tensor

  /// Of a grid's tokens, the last axis fastest: `extents` tokens along each axis and `channels` of a head for it, both
  /// even. The first `unturned` rows are of tokens before the grid, which have no place.
  init(extents: [Int], channels: [Int], unturned: Int = 0, on device: Device) throws {
    precondition(extents.count == channels.count && channels.allSatisfy { $0 % 2 == 0 })
    let angles = zip(extents, channels).map { extent, channels in
      (0..<extent).map { position in
        (0..<channels / 2).map { Double(position) / pow(10000, 2 * Double($0) / Double(channels)) }
      }
    }
    let half = channels.reduce(0, +) / 2
    func table(_ function: (Double) -> Double) throws -> Tensor {
      let axes = angles.map { axis in axis.map { $0.map { Float(function($0)) } } }
      let shape: Shape = [unturned + extents.reduce(1, *), half]
      var values = [Float](repeating: Float(function(0)), count: unturned * half)
      values.reserveCapacity(shape.count)
      for token in 0..<extents.reduce(1, *) {
        var (rest, stride) = (token, extents.reduce(1, *))
        for (axis, extent) in zip(axes, extents) {
          stride /= extent
          values += axis[rest / stride]
          rest %= stride
        }
      }
      return try Tensor(values, shape, on: device)
    }
    cosines = try table { cos($0) }
    sines = try table { sin($0) }
  }

  /// x [N, T, heads * headSize].
  func turned(_ x: Tensor, heads: Int) throws -> Tensor { try x.rotated(cosines, sines, heads: heads) }
}
