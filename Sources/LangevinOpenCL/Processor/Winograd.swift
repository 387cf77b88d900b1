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
    let atOnce = min(panels, winograd.panelsAtOnce(width: width, cores: device.computeUnits))
    let u = try queue.temporary(TensorSpec([winograd.matrices, atOnce, channels, width]))
    let v = try queue.temporary(TensorSpec([winograd.matrices, winograd.run, channels]))
    let m = try queue.temporary(TensorSpec([winograd.matrices, winograd.run, columns]))
    let program = Program.winograd(x.dtype, weight: .float32)
    let tile = try tile(winograd.key, on: &queue)
    var direct = size
    (direct.batch, direct.inner) = (1, 9 * channels)

    func transformInput(_ tiles: Range<Int>, on queue: inout LaunchQueue) throws {
      try queue.launch(
        WinogradInputKernel(x: x, v: v, tiles: tiles, winograd: winograd), program, global: [tiles.count],
        local: [1])
    }
    func multiply(_ tiles: Range<Int>, _ part: Range<Int>, on queue: inout LaunchQueue) throws {
      var run = size
      run.rows = tiles.count
      try PanelProduct(
        size: run, a: v, y: m, epilogue: EpilogueArguments(), scale: 1, tile: tile,
        longestSum: winograd.longestSum
      ).launch(u, part, on: &queue)
    }
    func transformOutput(_ tiles: Range<Int>, on queue: inout LaunchQueue) throws {
      try queue.launch(
        WinogradOutputKernel(m: m, y: y, epilogue: epilogue, tiles: tiles, winograd: winograd), program,
        global: [tiles.count], local: [1])
    }

    if winograd.isOneRun { try transformInput(0..<winograd.count, on: &queue) }
    try eachPart(of: weight, layout, direct, taps: 9, on: &queue) { w, part, queue in
      for first in stride(from: part.lowerBound, to: part.upperBound, by: atOnce) {
        let some = first..<min(first + atOnce, part.upperBound)
        // Where all panels stay, each part has its place among them.
        let (from, to) = (first - part.lowerBound, winograd.isOneRun ? 0 : first)
        let source = TensorView(
          storage: w.storage, offset: w.offset + from * 9 * channels * width, spec: w.spec)
        let target = TensorView(storage: u.storage, offset: u.offset + to * channels * width, spec: u.spec)
        try queue.launch(
          WinogradWeightsKernel(
            w: source, u: target, side: winograd.side, channels: channels,
            panels: winograd.isOneRun ? some.count : panels),
          .winograd(x.dtype, weight: w.dtype), global: [some.count, channels / 16],
          local: [1, 1])
        if winograd.isOneRun { try multiply(0..<winograd.count, some, on: &queue) }
      }
    }
    if winograd.isOneRun { return try transformOutput(0..<winograd.count, on: &queue) }
    for tiles in winograd.runs {
      try transformInput(tiles, on: &queue)
      try multiply(tiles, 0..<panels, on: &queue)
      try transformOutput(tiles, on: &queue)
    }
  }
}
