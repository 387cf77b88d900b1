import LangevinTensor

extension WinogradTiles {
  /// What the products' parameters are chosen by.
  var key: TuningKey {
    .product(.cpu, .float32, rows: size.rows, columns: size.columns, inner: size.inner)
  }
}

/// Convolutions by `winograd.cl` and, between its transforms, `panels.cl`.
extension ProcessorKernels {
  func conv2d(
    _ winograd: WinogradTiles, _ x: TensorView, _ weight: TensorView, _ layout: MatrixLayout, _ y: TensorView,
    _ epilogue: EpilogueArguments, on queue: inout LaunchQueue
  ) throws {
    let (channels, columns) = (winograd.channels, winograd.columns)
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
    for tiles in winograd.runs {
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
