import Foundation
import LangevinTensor

/// What became of a device that was tried.
public enum SelfTest: Sendable, Hashable, Codable {
  /// Its numbers are right, and it takes so long for a small step: a 3x3 convolution of 128 channels on a pair of 32x32
  /// images and attention over 256 tokens, float32.
  case passed(seconds: Double)
  /// Why it cannot be trusted, in one line.
  case failed(String)

  /// Tries a device, here or in a process of its own. Throws to stop everything.
  public typealias Runner = (ListedDevice) throws -> SelfTest

  /// Tries a device in this process, which a driver may crash.
  public static func run(on device: ListedDevice) -> SelfTest {
    do { return run(on: try DeviceChoice(device).open(fallback: false)) } catch { return .failed("\(error)") }
  }

  /// Tries a device that is open.
  public static func run(on device: Device) -> SelfTest {
    do { return .passed(seconds: try SmallStep(on: device).seconds()) } catch { return .failed("\(error)") }
  }
}

/// Wrong numbers.
enum SelfTestError: Error, CustomStringConvertible {
  case wrong(operation: String, got: Float, expected: Double)

  var description: String {
    switch self {
    case .wrong(let operation, let got, let expected):
      "its \(operation) is wrong: \(got) instead of \(expected)"
    }
  }
}

/// The operations that take most of a step, small enough to be tried in a moment. Numbers at some places are held to the
/// definition in float64.
struct SmallStep {
  private static let (batch, side, channels) = (2, 32, 128)
  private static let (tokens, heads) = (256, 2)

  private let device: Device
  private let pixels, kernel, states: [Float]
  private let image, sequence: Tensor
  private let weight: Weight

  /// Numbers of both signs that repeat after a prime number of places.
  private static func numbers(_ count: Int, _ period: Int) -> [Float] {
    (0..<count).map { Float($0 * 37 % period * 2 - period + 1) / Float(period) }
  }

  init(on device: Device) throws {
    let (batch, side, channels, tokens) = (Self.batch, Self.side, Self.channels, Self.tokens)
    self.device = device
    pixels = Self.numbers(batch * side * side * channels, 251)
    kernel = Self.numbers(channels * channels * 9, 241)
    states = Self.numbers(batch * tokens * channels, 239)
    image = try Tensor(pixels, [batch, side, side, channels], on: device)
    sequence = try Tensor(states, [batch, tokens, channels], on: device)
    weight = try Weight(convolution: Tensor(kernel, [channels, channels, 3, 3], on: device))
  }

  /// The best of a few runs, after one whose numbers are checked. Throws what the device throws, and `SelfTestError`.
  func seconds() throws -> Double {
    func run() throws -> (Tensor, Tensor) {
      let y = try image.conv2d(weight, kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))
      let z = try sequence.attention(keys: sequence, values: sequence, heads: Self.heads)
      try device.backend.synchronize()
      return (y, z)
    }
    let (y, z) = try run()
    try check(convolution: y.floats(), attention: z.floats())
    let clock = ContinuousClock()
    let start = clock.now
    var best = Double.infinity
    for _ in 0..<10 where clock.now - start < .milliseconds(150) {
      best = min(best, try clock.measure { _ = try run() } / .seconds(1))
    }
    return best
  }

  /// Throws `SelfTestError.wrong`.
  func check(convolution y: [Float], attention z: [Float]) throws {
    let (side, channels) = (Self.side, Self.channels)
    for (n, row, column, output) in [(0, 0, 0, 0), (0, 17, 31, 5), (1, 31, 30, 127), (1, 8, 13, 66)] {
      let (expected, size) = convolved(n, row, column, output)
      let got = y[((n * side + row) * side + column) * channels + output]
      // Winograd's tiles of 4x4 lose a few bits more than sums do.
      try hold(got, to: expected, within: 1e-5 * size, "convolution")
    }
    for (n, query, channel) in [(0, 0, 0), (0, 255, 63), (1, 100, 64), (1, 255, 127)] {
      let got = z[(n * Self.tokens + query) * channels + channel]
      try hold(got, to: attended(n, query, channel), within: 1e-4, "attention")
    }
  }

  private func hold(_ got: Float, to expected: Double, within bound: Double, _ operation: String) throws {
    guard abs(Double(got) - expected) <= bound else {
      throw SelfTestError.wrong(operation: operation, got: got, expected: expected)
    }
  }

  /// One number of the convolution, and the sum of its products' sizes.
  private func convolved(_ n: Int, _ row: Int, _ column: Int, _ output: Int) -> (sum: Double, size: Double) {
    let (side, channels) = (Self.side, Self.channels)
    var (sum, size) = (0.0, 0.0)
    for (dy, dx) in (0..<9).map({ ($0 / 3, $0 % 3) }) {
      let (y, x) = (row + dy - 1, column + dx - 1)
      guard (0..<side).contains(y), (0..<side).contains(x) else { continue }
      for input in 0..<channels {
        let product =
          Double(pixels[((n * side + y) * side + x) * channels + input])
          * Double(kernel[((output * channels + input) * 3 + dy) * 3 + dx])
        (sum, size) = (sum + product, size + abs(product))
      }
    }
    return (sum, size)
  }

  /// One number of the attention.
  private func attended(_ n: Int, _ query: Int, _ channel: Int) -> Double {
    let size = Self.channels / Self.heads
    let first = channel / size * size
    func value(_ token: Int, _ channel: Int) -> Double {
      Double(states[(n * Self.tokens + token) * Self.channels + channel])
    }
    let scores = (0..<Self.tokens).map { token in
      (first..<first + size).reduce(0) { $0 + value(query, $1) * value(token, $1) }
        / Double(size).squareRoot()
    }
    let most = scores.max() ?? 0
    let weights = scores.map { exp($0 - most) }
    let sum = zip(weights, 0...).reduce(0) { $0 + $1.0 * value($1.1, channel) }
    return sum / weights.reduce(0, +)
  }
}
