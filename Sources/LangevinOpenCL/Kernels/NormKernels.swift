import LangevinTensor

// The kernels of norm.cl.

struct GroupPartialKernel: Kernel {
  static let name = "group_partial"
  var x: TensorView
  var partial: OpenCLStorage
  var pixels, channels, chunkSize: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("partial", scratch: partial)
    try arguments.int("pixels", pixels)
    try arguments.int("channels", channels)
    try arguments.int("chunk_size", chunkSize)
  }
}

struct GroupCombineKernel: Kernel {
  static let name = "group_combine"
  var partial: OpenCLStorage
  var gamma, beta: TensorView?
  var coefficients: OpenCLStorage
  var pixels, channels, chunks, chunkSize: Int
  var epsilon: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("partial", scratch: partial)
    try arguments.reads("gamma", gamma)
    try arguments.reads("beta", beta)
    try arguments.writes("coefficients", scratch: coefficients)
    try arguments.int("pixels", pixels)
    try arguments.int("channels", channels)
    try arguments.int("chunks", chunks)
    try arguments.int("chunk_size", chunkSize)
    try arguments.float("epsilon", epsilon)
  }
}

struct GroupApplyKernel: Kernel {
  static let name = "group_apply"
  var x: TensorView
  var coefficients: OpenCLStorage
  var y: TensorView
  var pixels, channels, chunkSize: Int
  var activation: Activation

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("coefficients", scratch: coefficients)
    try arguments.writes("y", y)
    try arguments.int("pixels", pixels)
    try arguments.int("channels", channels)
    try arguments.int("chunk_size", chunkSize)
    try arguments.int("activation", activation.kernelIndex)
  }
}

struct RowNormKernel: Kernel {
  static let name = "row_norm"
  var x: TensorView
  var gamma, beta: TensorView?
  var y: TensorView
  var width: Int
  var epsilon: Float
  var centred, affine: Bool

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.reads("gamma", gamma)
    try arguments.reads("beta", beta)
    try arguments.writes("y", y)
    try arguments.int("width", width)
    try arguments.float("epsilon", epsilon)
    try arguments.flag("centred", centred)
    try arguments.flag("affine", affine)
  }
}

struct SoftmaxKernel: Kernel {
  static let name = "softmax"
  var x, y: TensorView
  var width: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.int("width", width)
  }
}
