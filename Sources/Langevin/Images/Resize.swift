extension Picture {
  /// Another size by antialiased bicubic interpolation, bit-equal to Pillow's `Image.BICUBIC`, across first.
  ///
  /// Separable with a = -0.5 (Keys, 1981); where it shrinks, the support widens with the ratio. Taps outside the
  /// picture are dropped and the rest renormalised; weights have 22 bits after the point, and the picture between
  /// the two passes has 8 bits. Pillow 13 goes down before across for some sizes, earlier versions never do.
  public func resized(width: Int, height: Int) -> Picture {
    precondition(width > 0 && height > 0)
    var result = self
    if width != result.width {
      let taps = Taps.all(from: result.width, to: width)
      result = Picture(
        unchecked: resample(
          result.pixels, outer: result.height, inner: 3, from: result.width, along: taps),
        width: width, height: result.height)
    }
    if height != result.height {
      let taps = Taps.all(from: result.height, to: height)
      result = Picture(
        unchecked: resample(result.pixels, outer: 1, inner: width * 3, from: result.height, along: taps),
        width: width, height: height)
    }
    return result
  }

  /// Resamples the middle axis of [outer, length, inner].
  private func resample(_ source: [UInt8], outer: Int, inner: Int, from length: Int, along taps: [Taps])
    -> [UInt8]
  {
    var result = [UInt8](repeating: 0, count: outer * taps.count * inner)
    for row in 0..<outer {
      for (index, tap) in taps.enumerated() {
        let target = (row * taps.count + index) * inner
        for channel in 0..<inner {
          var sum: Int32 = 1 << (Taps.fractionBits - 1)
          var position = (row * length + tap.first) * inner + channel
          for weight in tap.weights {
            sum &+= Int32(source[position]) &* weight
            position += inner
          }
          result[target + channel] = UInt8(min(max(sum >> Taps.fractionBits, 0), 255))
        }
      }
    }
    return result
  }
}

/// What one pixel of a resized axis is made of.
private struct Taps {
  /// 8 bits of the picture, 2 for the filter's overshoot and the sign leave 22 of 32.
  static let fractionBits: Int32 = 22

  let first: Int
  let weights: [Int32]

  static func all(from length: Int, to count: Int) -> [Taps] {
    let scale = Double(length) / Double(count)
    let stretch = max(scale, 1)
    let support = 2 * stretch
    return (0..<count).map { index in
      let centre = (Double(index) + 0.5) * scale
      let first = max(Int(centre - support + 0.5), 0)
      let end = min(Int(centre + support + 0.5), length)
      var weights = (first..<end).map { bicubic((Double($0) - centre + 0.5) * (1 / stretch)) }
      let total = weights.reduce(0, +)
      if total != 0 { weights = weights.map { $0 / total } }
      return Taps(
        first: first,
        weights: weights.map { Int32($0 * Double(1 << fractionBits) + ($0 < 0 ? -0.5 : 0.5)) })
    }
  }

  private static func bicubic(_ position: Double) -> Double {
    let a = -0.5
    let x = abs(position)
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }
}
