import LangevinTensor

// The kernels of int8_product.cl.

/// Rows to steps of their blocks.
struct Int8RowsKernel: Kernel {
  static let name = "int8_rows"
  var x: TensorView
  var steps, blocks: OpenCLStorage
  /// Of blocks.
  var count: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("steps", scratch: steps)
    try arguments.writes("blocks", scratch: blocks)
    try arguments.ulong("count", count)
  }
}

/// A weight in q8_0 to panels.
struct Int8PanelsKernel: Kernel {
  static let name = "int8_panels"
  var x: TensorView
  var w, scales: OpenCLStorage
  var inner, columns: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("w", scratch: w)
    try arguments.writes("scales", scratch: scales)
    try arguments.int("inner", inner)
    try arguments.int("columns", columns)
  }
}

/// The product of both.
struct Int8ProductKernel: Kernel {
  static let name = "int8_product"
  var steps, blocks, w, scales: OpenCLStorage
  var y: TensorView
  var epilogue: EpilogueArguments
  var scale: Float
  var rows, columns, inner: Int
  /// Rows of an image.
  var imageRows: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("steps", scratch: steps)
    try arguments.reads("blocks", scratch: blocks)
    try arguments.reads("w", scratch: w)
    try arguments.reads("scales", scratch: scales)
    try arguments.writes("y", y)
    try epilogue.encode(to: &arguments)
    try arguments.float("scale", scale)
    try arguments.int("rows", rows)
    try arguments.int("columns", columns)
    try arguments.int("inner", inner)
    try arguments.int("image_rows", imageRows)
  }
}
