import LangevinTensor

// The kernels of weight_gradient.cl and tiled_weight_gradient.cl, which have the same parameters, and of
// norm_gradient.cl, elementwise_gradient.cl and embedding_gradient.cl.

struct WeightGradientKernel: Kernel {
  static let name = "weight_gradient"
  var x, g: TensorView
  /// The gradient, or float32 parts of it.
  var y: TensorView
  var pixels, partSize, rows, columns: Int
  var geometry: ConvolutionGeometry

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("g", g)
    try arguments.writes("y", y)
    try arguments.int("pixels", pixels)
    try arguments.int("part_size", partSize)
    try arguments.int("rows", rows)
    try arguments.int("columns", columns)
    try arguments.int("channels", geometry.channels)
    try arguments.int("height", geometry.height)
    try arguments.int("width", geometry.width)
    try arguments.int("out_height", geometry.outHeight)
    try arguments.int("out_width", geometry.outWidth)
    try arguments.int("kernel_width", geometry.kernel.width)
    try arguments.int("step", geometry.stride)
    try arguments.int("pad_top", geometry.padding.top)
    try arguments.int("pad_left", geometry.padding.left)
  }
}

struct GroupMomentsKernel: Kernel {
  static let name = "group_moments"
  var partial, moments: OpenCLStorage
  var pixels, channels, chunks, chunkSize: Int
  var epsilon: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("partial", scratch: partial)
    try arguments.writes("moments", scratch: moments)
    try arguments.int("pixels", pixels)
    try arguments.int("channels", channels)
    try arguments.int("chunks", chunks)
    try arguments.int("chunk_size", chunkSize)
    try arguments.float("epsilon", epsilon)
  }
}

struct GroupGradientPartialKernel: Kernel {
  static let name = "group_gradient_partial"
  var x, gamma, beta, g: TensorView
  var moments, sums: OpenCLStorage
  var pixels, channels, chunkSize: Int
  var activation: Activation

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("gamma", gamma)
    try arguments.reads("beta", beta)
    try arguments.reads("g", g)
    try arguments.reads("moments", scratch: moments)
    try arguments.writes("sums", scratch: sums)
    try arguments.int("pixels", pixels)
    try arguments.int("channels", channels)
    try arguments.int("chunk_size", chunkSize)
    try arguments.int("activation", activation.kernelIndex)
  }
}

struct GroupGradientCombineKernel: Kernel {
  static let name = "group_gradient_combine"
  var sums: OpenCLStorage
  var gamma: TensorView
  var totals, means: OpenCLStorage
  var pixels, channels, chunks: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("sums", scratch: sums)
    try arguments.reads("gamma", gamma)
    try arguments.writes("totals", scratch: totals)
    try arguments.writes("means", scratch: means)
    try arguments.int("pixels", pixels)
    try arguments.int("channels", channels)
    try arguments.int("chunks", chunks)
  }
}

struct GroupGradientApplyKernel: Kernel {
  static let name = "group_gradient_apply"
  var x, gamma, beta, g, y: TensorView
  var moments, means: OpenCLStorage
  var pixels, channels, chunkSize: Int
  var activation: Activation

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("gamma", gamma)
    try arguments.reads("beta", beta)
    try arguments.reads("g", g)
    try arguments.writes("y", y)
    try arguments.reads("moments", scratch: moments)
    try arguments.reads("means", scratch: means)
    try arguments.int("pixels", pixels)
    try arguments.int("channels", channels)
    try arguments.int("chunk_size", chunkSize)
    try arguments.int("activation", activation.kernelIndex)
  }
}

struct RowNormGradientKernel: Kernel {
  static let name = "row_norm_gradient"
  var x: TensorView
  var gamma: TensorView?
  var g, y: TensorView
  /// Of gamma's gradient and, where centred, beta's, for each work-group.
  var sums: OpenCLStorage
  var rows, width: Int
  var epsilon: Float
  var centred: Bool

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("gamma", gamma)
    try arguments.reads("g", g)
    try arguments.writes("y", y)
    try arguments.writes("sums", scratch: sums)
    try arguments.int("rows", rows)
    try arguments.int("width", width)
    try arguments.float("epsilon", epsilon)
    try arguments.flag("centred", centred)
    try arguments.flag("affine", gamma != nil)
  }
}

struct UnaryGradientKernel: Kernel {
  static let name = "unary_gradient"
  var x, g, y: TensorView
  var count, function: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("g", g)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.int("function", function)
  }
}

struct GEGLUGradientKernel: Kernel {
  static let name = "geglu_gradient"
  var x, g, y: TensorView
  var rows, width, chunks: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("g", g)
    try arguments.writes("y", y)
    try arguments.ulong("rows", rows)
    try arguments.ulong("width", width)
    try arguments.ulong("chunks", chunks)
  }
}

struct EmbeddingGradientKernel: Kernel {
  static let name = "embedding_gradient"
  var ids, g, y: TensorView
  var count, rows, width: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("ids", ids)
    try arguments.reads("g", g)
    try arguments.writes("y", y)
    try arguments.int("count", count)
    try arguments.int("rows", rows)
    try arguments.int("width", width)
  }
}

struct AdamWKernel: Kernel {
  static let name = "adam_w"
  /// State and y are float32, four times `count`.
  var state, gradient, scale, y: TensorView
  var count: Int
  var step: AdamW

  func encode(to arguments: inout ArgumentEncoder) throws {
    // In double precision: 1 - 0.999 in float32 is off by 1e-5 of itself.
    func rest(_ kept: Float) -> Float { Float(1 - Double(kept)) }
    try arguments.reads("state", state)
    try arguments.reads("gradient", gradient)
    try arguments.reads("scale", scale)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.float("mean_kept", step.beta1)
    try arguments.float("mean_added", rest(step.beta1))
    try arguments.float("square_kept", step.beta2)
    try arguments.float("square_added", rest(step.beta2))
    try arguments.float("rate", Float(Double(step.rate) / Double(step.correction1)))
    try arguments.float("root", Float(1 / Double(step.correction2).squareRoot()))
    try arguments.float("epsilon", step.epsilon)
    try arguments.float("shrink", Float(Double(step.rate) * Double(step.decay)))
    try arguments.float("average_kept", step.averaging)
    try arguments.float("average_added", rest(step.averaging))
  }
}
