import Foundation

/// How a picture is interpolated when its size changes: Pillow's filters of the same names.
public enum ResizeFilter: String, Sendable, Hashable, CaseIterable {
  /// A triangle, 1 pixel to each side.
  case bilinear
  /// Keys' cubic with a = -0.5 (1981), 2 pixels to each side.
  case bicubic
  /// A sinc windowed by a wider one, 3 pixels to each side.
  case lanczos

  /// Pixels to each side of the centre, where the picture grows.
  var support: Double {
    switch self {
    case .bilinear: 1
    case .bicubic: 2
    case .lanczos: 3
    }
  }

  /// The weight of a pixel at this distance from the centre.
  func weight(_ position: Double) -> Double {
    let x = abs(position)
    switch self {
    case .bilinear: return x < 1 ? 1 - x : 0
    case .bicubic:
      let a = -0.5
      if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
    case .lanczos: return position >= -3 && position < 3 ? Self.sinc(position) * Self.sinc(position / 3) : 0
    }
  }

  private static func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }
}

extension Picture {
  /// Another size by antialiased interpolation, bit-equal to Pillow's `Image.resize`, across first.
  ///
  /// Separable; where it shrinks, the filter's support widens with the ratio. Taps outside the picture are dropped
  /// and the rest renormalised; weights have 22 bits after the point, and the picture between the two passes has 8
  /// bits. Pillow 13 goes down before across where height shrinks much more than width, earlier versions never do.
  public func resized(width: Int, height: Int, filter: ResizeFilter = .bicubic) -> Picture {
    precondition(width > 0 && height > 0)
    var result = self
    if width != result.width {
      let taps = Taps.all(from: result.width, to: width, filter)
      result = Picture(
        unchecked: resample(
          result.pixels, outer: result.height, inner: 3, from: result.width, along: taps),
        width: width, height: result.height)
    }
    if height != result.height {
      let taps = Taps.all(from: result.height, to: height, filter)
      result = Picture(
        unchecked: resample(result.pixels, outer: 1, inner: width * 3, from: result.height, along: taps),
        width: width, height: height)
    }
    return result
  }

  /// The middle of the picture in this size; what lies outside of it is black. Odd margins are wider at the right
  /// and the bottom where the picture is larger, at the left and the top where it is smaller, as transformers has it.
  public func croppedToCentre(width: Int, height: Int) -> Picture {
    precondition(width > 0 && height > 0)
    // Rounded down, also below zero.
    let (left, top) = ((self.width - width) >> 1, (self.height - height) >> 1)
    var result = [UInt8](repeating: 0, count: width * height * 3)
    let columns = max(0, -left)..<min(width, self.width - left)
    for y in max(0, -top)..<min(height, self.height - top) {
      let source = ((y + top) * self.width + columns.lowerBound + left) * 3
      let target = (y * width + columns.lowerBound) * 3
      let count = columns.count * 3
      result.replaceSubrange(target..<target + count, with: pixels[source..<source + count])
    }
    return Picture(unchecked: result, width: width, height: height)
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

  static func all(from length: Int, to count: Int, _ filter: ResizeFilter) -> [Taps] {
    filter.taps(from: length, to: count).map { tap in
      Taps(
        first: tap.first,
        weights: tap.weights.map { Int32($0 * Double(1 << fractionBits) + ($0 < 0 ? -0.5 : 0.5)) })
    }
  }
}

extension ResizeFilter {
  /// For each of `count` pixels which neighbours of the `length` it is made of, and their weights, whose sum is 1.
  func taps(from length: Int, to count: Int) -> [(first: Int, weights: [Double])] {
    let scale = Double(length) / Double(count)
    let stretch = max(scale, 1)
    let reach = support * stretch
    return (0..<count).map { index in
      let centre = (Double(index) + 0.5) * scale
      let first = max(Int(centre - reach + 0.5), 0)
      let end = min(Int(centre + reach + 0.5), length)
      let weights = (first..<end).map { weight((Double($0) - centre + 0.5) * (1 / stretch)) }
      let total = weights.reduce(0, +)
      return (first, total == 0 ? weights : weights.map { $0 / total })
    }
  }
}
