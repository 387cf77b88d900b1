import LangevinTensor

// The kernels of panels.cl and tiled.cl, which share epilogue.cl.

/// What follows a product: the parameters that epilogue.cl gives both kernels.
struct EpilogueArguments {
  private var bias, perImage, residual: TensorView?
  private var activation: Activation

  /// Of a product that nothing is added to.
  init() { activation = .identity }

  init(_ epilogue: Epilogue, _ operands: ProductOperands<TensorView>) {
    (bias, perImage, residual) = (operands.bias, operands.perImage, operands.residual)
    activation = epilogue.activation
  }

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("bias", bias)
    try arguments.reads("per_image", perImage)
    try arguments.reads("residual", residual)
    try arguments.int(
      "extras", (bias == nil ? 0 : 1) + (perImage == nil ? 0 : 2) + (residual == nil ? 0 : 4))
    try arguments.int("activation", activation.kernelIndex)
  }
}

/// A convolution's extents: [N, H, W, C] in, [N, H', W', columns] out.
struct ConvolutionGeometry {
  let channels, height, width, outHeight, outWidth: Int
  let kernel: Extent2D
  let stride: Int
  let padding: Padding2D

  init(_ conv: Conv2D, input: Shape, output: Shape) {
    (height, width, channels) = (input[1], input[2], input[3])
    (outHeight, outWidth) = (output[1], output[2])
    (kernel, stride, padding) = (conv.kernel, conv.stride, conv.padding)
  }

  /// A linear layer's rows, as a line of pixels that one tap sees.
  init(pixels: Int, channels: Int) {
    let line: Shape = [1, 1, pixels, channels]
    self.init(Conv2D(kernel: Extent2D(height: 1, width: 1)), input: line, output: line)
  }
}

extension Conv2D {
  /// Nil where the pixels as they lie in memory are a product's left operand. What is added for each image needs
  /// to know the images.
  func geometry(input: Shape, output: Shape) -> ConvolutionGeometry? {
    isPointwise && !epilogue.perImage ? nil : ConvolutionGeometry(self, input: input, output: output)
  }
}

/// panels.cl.
struct PanelProductKernel: Kernel {
  static let name = "product"
  var a, w, y: TensorView
  var epilogue: EpilogueArguments
  /// As many zeros as there are channels, or more.
  var zeros: TensorView
  var scale: Float
  var batches, rows, columns, channels: Int
  /// Terms that are added to one accumulator; all where nil.
  var longestSum: Int?
  /// The columns that `w` has.
  var part: Range<Int>
  /// Elements between rows of A, and between the batches of each.
  var aStride, aBatch, wBatch, yBatch: Int
  /// Nil for a product of matrices; the program is another one then.
  var convolution: ConvolutionGeometry?

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("a", a)
    try arguments.reads("w", w)
    try arguments.writes("y", y)
    try epilogue.encode(to: &arguments)
    try arguments.reads("zeros", zeros)
    try arguments.float("scale", scale)
    try arguments.int("batches", batches)
    try arguments.int("rows", rows)
    try arguments.int("columns", columns)
    try arguments.int("begin", part.lowerBound)
    try arguments.int("end", part.upperBound)
    try arguments.int("channels", channels)
    try arguments.int("longest", longestSum ?? 0)
    try arguments.ulong("a_stride", aStride)
    try arguments.ulong("a_batch", aBatch)
    try arguments.ulong("w_batch", wBatch)
    try arguments.ulong("y_batch", yBatch)
    guard let conv = convolution else { return }
    try arguments.int("height", conv.height)
    try arguments.int("width", conv.width)
    try arguments.int("out_height", conv.outHeight)
    try arguments.int("out_width", conv.outWidth)
    try arguments.int("kernel_height", conv.kernel.height)
    try arguments.int("kernel_width", conv.kernel.width)
    try arguments.int("step", conv.stride)
    try arguments.int("pad_top", conv.padding.top)
    try arguments.int("pad_left", conv.padding.left)
  }
}

/// tiled.cl.
struct TiledProductKernel: Kernel {
  static let name = "product"
  var a, w, y: TensorView
  var epilogue: EpilogueArguments
  var scale: Float
  var rows, columns, inner: Int
  /// Elements between rows and between inner steps of A, and between inner steps and columns of W.
  var aRow, aInner, wInner, wColumn: Int
  var aBatch, wBatch, yBatch: Int
  /// Nil for a product of matrices; the program is another one then.
  var convolution: ConvolutionGeometry?
  /// Inner steps of a part, and where the parts' sums go; 0 and nil where there is one part.
  var partSize = 0
  var partial: OpenCLStorage?

  /// `aligned`.
  private var alignment: Int {
    func isAligned(_ view: TensorView, _ stride: Int, _ batch: Int) -> Bool {
      [view.offset, stride, batch].allSatisfy { $0.isMultiple(of: 4) }
    }
    // Along the contiguous axis a vector is whole where the other axis has a multiple of its size between its places.
    let aStride = convolution?.channels ?? (aInner == 1 ? aRow : aInner)
    let isA = isAligned(a, aStride, convolution == nil ? aBatch : 0)
    let isW = isAligned(w, wColumn == 1 ? wInner : wColumn, wBatch)
    return (isA ? 1 : 0) + (isW ? 2 : 0)
  }

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("a", a)
    try arguments.reads("w", w)
    try arguments.writes("y", y)
    try epilogue.encode(to: &arguments)
    try arguments.float("scale", scale)
    try arguments.int("rows", rows)
    try arguments.int("columns", columns)
    try arguments.int("inner", inner)
    try arguments.int("part_size", partSize)
    try arguments.writes("partial", scratch: partial)
    try arguments.int("aligned", alignment)
    try arguments.ulong("a_row", aRow)
    try arguments.ulong("a_inner", aInner)
    try arguments.ulong("w_inner", wInner)
    try arguments.ulong("w_column", wColumn)
    try arguments.ulong("a_batch", aBatch)
    try arguments.ulong("w_batch", wBatch)
    try arguments.ulong("y_batch", yBatch)
    guard let conv = convolution else { return }
    try arguments.int("channels", conv.channels)
    try arguments.int("height", conv.height)
    try arguments.int("width", conv.width)
    try arguments.int("out_height", conv.outHeight)
    try arguments.int("out_width", conv.outWidth)
    try arguments.int("kernel_width", conv.kernel.width)
    try arguments.int("step", conv.stride)
    try arguments.int("pad_top", conv.padding.top)
    try arguments.int("pad_left", conv.padding.left)
  }
}

/// tiled.cl.
struct ProductPartsKernel: Kernel {
  static let name = "product_parts"
  var partial: OpenCLStorage
  var y: TensorView
  var epilogue: EpilogueArguments
  var scale: Float
  var rows, columns, parts, imageRows: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("partial", scratch: partial)
    try arguments.writes("y", y)
    try epilogue.encode(to: &arguments)
    try arguments.float("scale", scale)
    try arguments.int("rows", rows)
    try arguments.int("columns", columns)
    try arguments.int("parts", parts)
    try arguments.int("image_rows", imageRows)
  }
}

extension Activation {
  /// The prelude's number for `activate`.
  var kernelIndex: Int {
    switch self {
    case .identity: 0
    case .silu: 1
    case .gelu: 2
    case .geluTanh: 3
    case .quickGelu: 4
    }
  }
}
