import Langevin
import LangevinDiffusion
import LangevinTensor

/// Small pictures that a caption describes in full: a shape in a colour, with a hat or without.
struct ShapePictures {
  /// What a caption says.
  struct Kind: Hashable {
    var shape, color: Int
    var hasHat: Bool

    /// The caption's words.
    var caption: String {
      ShapePictures.colors[color].name + " " + ShapePictures.shapes[shape] + (hasHat ? " with a hat" : "")
    }

    /// Start, colour, shape, hat where there is one, end, and the end again as padding.
    var tokens: [Int32] {
      let words = [1 + Int32(color), 5 + Int32(shape)] + (hasHat ? [8] : [])
      return [0] + words + Array(repeating: ShapePictures.endToken, count: 5 - words.count - 1)
    }

    /// As rows of a table: what a UNet without a text encoder looks at.
    var rows: [Int32] { [Int32(color), 4 + Int32(shape), hasHat ? 8 : 7] }
  }

  static let size = 16
  static let endToken: Int32 = 9
  static let vocabulary = 10
  static let shapes = ["circle", "square", "triangle"]
  static let colors: [(name: String, rgb: SIMD3<Float>)] = [
    ("red", SIMD3(0.85, 0.15, 0.15)), ("green", SIMD3(0.1, 0.6, 0.25)), ("blue", SIMD3(0.15, 0.3, 0.85)),
    ("yellow", SIMD3(0.95, 0.8, 0.1)),
  ]

  /// All 24.
  static let kinds: [Kind] = (0..<3).flatMap { shape in
    (0..<4).flatMap { color in [false, true].map { Kind(shape: shape, color: color, hasHat: $0) } }
  }
  /// Hats that no training shows: on blue triangles and on green circles.
  static let heldOut: Set<Kind> = [
    Kind(shape: 2, color: 2, hasHat: true), Kind(shape: 0, color: 1, hasHat: true),
  ]
  /// The kinds that are trained.
  static let shown = kinds.filter { !heldOut.contains($0) }

  /// Of all that is random in pictures.
  let seed: UInt64

  /// [H, W, 3] in -1...1, row by row, on white; the number decides place and size.
  func pixels(_ kind: Kind, _ number: UInt64) -> [Float] {
    let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    let counter = SIMD4(
      UInt32(truncatingIfNeeded: number), UInt32(truncatingIfNeeded: number >> 32),
      UInt32(kind.tokens.reduce(0) { $0 * 10 + $1 }), 0x53)
    let words = NoiseFunction.philox(counter: counter, key: key)
    func random(_ lane: Int) -> Float { Float(words[lane] >> 8) * 0x1p-24 }
    let radius = 3.6 + 1.2 * random(0)
    let center = SIMD2(6.8 + 2.4 * random(1), 9 + 1.6 * random(2))
    let color = Self.colors[kind.color].rgb
    let hat = SIMD3<Float>(0.2, 0.15, 0.15)
    var result: [Float] = []
    for y in 0..<Self.size {
      for x in 0..<Self.size {
        // Nine points of a pixel give soft edges.
        var sum = SIMD3<Float>.zero
        for part in 0..<9 {
          let point = SIMD2(
            Float(x) + (Float(part % 3) + 0.5) / 3, Float(y) + (Float(part / 3) + 0.5) / 3)
          let d = (point - center) / radius
          if kind.hasHat, Self.isHat(d) {
            sum += hat
          } else {
            sum += Self.isInside(kind.shape, d) ? color : SIMD3(repeating: 1)
          }
        }
        let level = sum / 9 * 2 - 1
        result += [level.x, level.y, level.z]
      }
    }
    return result
  }

  private static func isInside(_ shape: Int, _ d: SIMD2<Float>) -> Bool {
    switch shape {
    case 0: d.x * d.x + d.y * d.y < 1
    case 1: abs(d.x) < 0.85 && abs(d.y) < 0.85
    default: d.y < 0.85 && d.y > -1 && abs(d.x) < (d.y + 1) * 0.55
    }
  }

  /// A brim, and a crown upon it.
  private static func isHat(_ d: SIMD2<Float>) -> Bool {
    (abs(d.y + 0.75) < 0.18 && abs(d.x) < 1) || (d.y < -0.7 && d.y > -1.65 && abs(d.x) < 0.55)
  }

  /// Pictures [N, 16, 16, 3] of kinds, each with a number of its own.
  func tensor(_ pictures: [(kind: Kind, number: UInt64)], on device: Device) throws -> Tensor {
    try Tensor(
      pictures.flatMap { pixels($0.kind, $0.number) }, [pictures.count, Self.size, Self.size, 3],
      on: device)
  }

  /// Kind and number of a sample of a training run; epochs of all kinds that are shown, in an order of chance.
  func sample(_ number: UInt64) -> (kind: Kind, number: UInt64) {
    let word = TrainingNoise.words(seed: seed, sample: number, TrainingNoise.choiceStream).x
    return (Self.shown[Int(word) % Self.shown.count], number)
  }
}
