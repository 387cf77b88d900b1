import LangevinTensor

/// A convolution that is computed tile by tile, 2x2 pixels each, with 16 products where the direct sum has 36.
/// arXiv:1509.09308, F(2x2, 3x3). Whether one is depends on its shapes alone, so that no tuning changes its bits.
struct Winograd {
  let geometry: ConvolutionGeometry
  let images, columns: Int
  /// Of an image.
  let tileRows, tileColumns: Int

  /// Between the transforms, of a run of tiles: what stays in a processor's last cache.
  private static let runBytes = 24 << 20
  /// With fewer pixels the weights' transform costs what the products save.
  private static let leastPixels = 512
  /// With fewer channels the transforms of pixels do.
  private static let leastChannels = 64
  /// Rows that products are computed in.
  private static let runMultiple = 64

  /// Nil where the direct sum is faster, or the kernels lack the form.
  init?(_ conv: Conv2D, input: Shape, output: Shape) {
    guard conv.kernel == Extent2D(height: 3, width: 3), conv.stride == 1 else { return nil }
    geometry = ConvolutionGeometry(conv, input: input, output: output)
    (images, columns) = (output[0], output[3])
    (tileRows, tileColumns) = ((geometry.outHeight + 1) / 2, (geometry.outWidth + 1) / 2)
    guard min(geometry.channels, columns) >= Winograd.leastChannels, geometry.channels % 16 == 0,
      columns % 16 == 0, images * geometry.outHeight * geometry.outWidth >= Winograd.leastPixels
    else { return nil }
  }

  /// Of all images.
  var tiles: Int { images * tileRows * tileColumns }

  /// How many tiles are computed together.
  var run: Int {
    let fitting = Winograd.runBytes / (16 * (geometry.channels + columns) * 4)
    return min(tiles, max(fitting / Winograd.runMultiple, 2) * Winograd.runMultiple)
  }

  /// Of a run's sixteen products, which the last run has fewer rows of.
  var size: ProductSize {
    MatMul().size(left: [16, run, geometry.channels], right: [16, geometry.channels, columns])
  }
}

extension Winograd {
  /// What the products' parameters are chosen by.
  var key: TuningKey {
    .product(.cpu, .float32, rows: size.rows, columns: size.columns, inner: size.inner)
  }
}

/// Convolutions by `winograd.cl` and, between its transforms, `panels.cl`.
extension ProcessorKernels {
  func conv2d(
    _ winograd: Winograd, _ x: TensorView, _ weight: TensorView, _ layout: MatrixLayout, _ y: TensorView,
    _ epilogue: EpilogueArguments, on queue: inout LaunchQueue
  ) throws {
    let (channels, columns) = (winograd.geometry.channels, winograd.columns)
    let size = winograd.size
    let (panels, width) = (ProcessorKernels.panels(size), ProcessorKernels.panelWidth)
    let u = try queue.temporary(TensorSpec([16, panels, channels, width]))
    var direct = size
    (direct.batch, direct.inner) = (1, 9 * channels)
    try eachPart(of: weight, layout, direct, taps: 9, on: &queue) { w, part, queue in
      let target = TensorView(
        storage: u.storage, offset: u.offset + part.lowerBound * channels * width, spec: u.spec)
      try queue.launch(
        WinogradWeightsKernel(w: w, u: target, channels: channels, panels: panels),
        .winograd(x.dtype, weight: w.dtype), global: [part.count, channels / 16], local: [1, 1])
    }
    let tile = try tile(winograd.key, on: &queue)
    let program = Program.winograd(x.dtype, weight: .float32)
    let v = try queue.temporary(TensorSpec([16, winograd.run, channels]))
    let m = try queue.temporary(TensorSpec([16, winograd.run, columns]))
    for first in stride(from: 0, to: winograd.tiles, by: winograd.run) {
      let tiles = first..<min(first + winograd.run, winograd.tiles)
      try queue.launch(
        WinogradInputKernel(x: x, v: v, tiles: tiles, winograd: winograd), program, global: [tiles.count],
        local: [1])
      var part = size
      part.rows = tiles.count
      try PanelProduct(size: part, a: v, y: m, epilogue: EpilogueArguments(), scale: 1, tile: tile)
        .launch(u, 0..<panels, on: &queue)
      try queue.launch(
        WinogradOutputKernel(m: m, y: y, epilogue: epilogue, tiles: tiles, winograd: winograd), program,
        global: [tiles.count], local: [1])
    }
  }
}
