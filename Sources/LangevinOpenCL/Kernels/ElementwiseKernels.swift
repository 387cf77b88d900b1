import LangevinTensor

// The kernels of elementwise.cl, cast.cl and noise.cl.

struct MapKernel: Kernel {
  static let name = "map"
  var x, y: TensorView
  var count, function: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.int("function", function)
  }
}

struct AffineKernel: Kernel {
  static let name = "affine"
  var x, y: TensorView
  var count: Int
  var scale, offset: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.float("scale", scale)
    try arguments.float("offset", offset)
  }
}

struct ClampKernel: Kernel {
  static let name = "clamp_range"
  var x, y: TensorView
  var count: Int
  var lower, upper: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.float("lower", lower)
    try arguments.float("upper", upper)
  }
}

struct BinaryKernel: Kernel {
  static let name = "binary"
  var a, b, y: TensorView
  var count, function: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("a", a)
    try arguments.reads("b", b)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.int("function", function)
  }
}

struct StridedBinaryKernel: Kernel {
  static let name = "binary_strided"
  var a, b, y: TensorView
  var count, function: Int
  /// Over y; its strides are those of a and of b.
  var walk: Walk

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("a", a)
    try arguments.reads("b", b)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.int("function", function)
    try arguments.ints("d", from: 1, walk.extents.dropFirst())
    try arguments.ulongs("s", from: 0, walk.first)
    try arguments.ulongs("t", from: 0, walk.second)
  }
}

struct LinearCombinationKernel: Kernel {
  static let name = "linear_combination"
  var y: TensorView
  var count: Int
  /// At most eight.
  var x: [TensorView]
  var coefficients: [Float]

  private static let terms: [(StaticString, StaticString)] = [
    ("x0", "c0"), ("x1", "c1"), ("x2", "c2"), ("x3", "c3"), ("x4", "c4"), ("x5", "c5"), ("x6", "c6"),
    ("x7", "c7"),
  ]

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.int("terms", x.count)
    for (index, (term, coefficient)) in Self.terms.enumerated() {
      try arguments.reads(term, index < x.count ? x[index] : nil)
      try arguments.float(coefficient, index < x.count ? coefficients[index] : 0)
    }
  }
}

struct GEGLUKernel: Kernel {
  static let name = "geglu"
  var x, y: TensorView
  var rows, width, chunks: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.ulong("rows", rows)
    try arguments.ulong("width", width)
    try arguments.ulong("chunks", chunks)
  }
}

struct RotaryKernel: Kernel {
  static let name = "rotary"
  var x, cosines, sines, y: TensorView
  var rows, tokens, heads, pairs: Int
  var interleaved: Bool

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("cosines", cosines)
    try arguments.reads("sines", sines)
    try arguments.writes("y", y)
    try arguments.ulong("rows", rows)
    try arguments.ulong("tokens", tokens)
    try arguments.int("heads", heads)
    try arguments.int("pairs", pairs)
    try arguments.flag("interleaved", interleaved)
  }
}

struct FillKernel: Kernel {
  static let name = "fill"
  var y: TensorView
  var count: Int
  var value: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.float("value", value)
  }
}

struct NonFiniteCountKernel: Kernel {
  static let name = "non_finite_count"
  var x, found: TensorView
  var count: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("found", found)
    try arguments.ulong("count", count)
  }
}

struct CastKernel: Kernel {
  static let name = "cast"
  var x, y: TensorView
  var count: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
  }
}

struct NormalNoiseKernel: Kernel {
  static let name = "normal_noise"
  var y: TensorView
  var count: Int
  var noise: NormalNoise

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.uint("seed_low", UInt32(truncatingIfNeeded: noise.seed))
    try arguments.uint("seed_high", UInt32(truncatingIfNeeded: noise.seed >> 32))
    try arguments.uint("stream", noise.stream)
    try arguments.uint("step", noise.step)
  }
}
