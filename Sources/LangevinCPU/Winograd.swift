import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// The convolution of x with some panels of a weight [9 C, columns], and the epilogue, at the panels' columns of y.
  /// Each pixel is one sum in one order, however the work is shared out. `zeros` are as many as there are channels.
  func convolve(
    _ tiles: WinogradTiles, _ x: UnsafePointer<Float>, by panels: Panels, zeros: UnsafePointer<Float>,
    _ epilogue: EpilogueOperands, into y: UnsafeMutablePointer<Float>
  ) throws {
    let (channels, columns) = (tiles.channels, panels.columns)
    let weights = try transformed(panels, channels: channels)
    let v = try pool.scratch(16 * tiles.run * channels)
    let m = try pool.scratch(16 * tiles.run * columns.count)
    for run in tiles.runs {
      parallelFor(run.count, grain: 8) { _, range in
        withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: 16) { window in
          for i in range {
            tiles.window(run.lowerBound + i, of: x, zeros, into: window)
            vm_winograd_input(window.baseAddress, channels, v.floats + i * channels, run.count * channels)
          }
        }
      }
      for (index, weight) in weights.enumerated() {
        try multiply(
          v.floats + index * run.count * channels, rows: run.count, k: channels, by: weight,
          EpilogueOperands(), into: m.floats + index * run.count * columns.count)
      }
      parallelFor(run.count, grain: 8) { _, range in
        for i in range {
          tiles.write(
            run.lowerBound + i, m.floats + i * columns.count, matrix: run.count * columns.count, columns,
            epilogue, into: y)
        }
      }
    }
    withExtendedLifetime((v, m)) {}
  }

  /// The sixteen matrices [channels, columns] of a weight's panels.
  private func transformed(_ panels: Panels, channels: Int) throws -> [Panels] {
    let count = (panels.columns.count + 31) / 32
    let matrix = count * channels * 32
    let u = try pool.scratch(16 * matrix)
    parallelFor(count, grain: 1) { _, range in
      for panel in range {
        vm_winograd_weights(
          panels.from(column: panels.columns.lowerBound + panel * 32), channels,
          u.floats + panel * channels * 32, matrix)
      }
    }
    return (0..<16).map {
      Panels(
        u, offset: $0 * matrix, k: channels, columns: 0..<panels.columns.count, stride: panels.columns.count)
    }
  }
}

extension WinogradTiles {
  /// Which image a tile is of, and its first pixel there.
  private func place(_ tile: Int) -> (image: Int, top: Int, left: Int) {
    (tile / (tileRows * tileColumns), tile / tileColumns % tileRows * 2, tile % tileColumns * 2)
  }

  /// Where the sixteen pixels of a tile's window are, row by row; `zeros` beside the picture.
  fileprivate func window(
    _ tile: Int, of x: UnsafePointer<Float>, _ zeros: UnsafePointer<Float>,
    into window: UnsafeMutableBufferPointer<UnsafePointer<Float>?>
  ) {
    let (height, width) = (input[1], input[2])
    let (image, top, left) = place(tile)
    for i in 0..<16 {
      let (line, column) = (top - padTop + i / 4, left - padLeft + i % 4)
      let isInside = (0..<height).contains(line) && (0..<width).contains(column)
      window[i] = isInside ? x + ((image * height + line) * width + column) * channels : zeros
    }
  }

  /// Writes the pixels of a tile, at some columns, from its sixteen rows `matrix` apart.
  fileprivate func write(
    _ tile: Int, _ m: UnsafePointer<Float>, matrix: Int, _ block: Range<Int>, _ epilogue: EpilogueOperands,
    into y: UnsafeMutablePointer<Float>
  ) {
    let (height, width) = (output[1], output[2])
    let (image, top, left) = place(tile)
    let lines = (top..<min(top + 2, height)).map { line in
      let start = (image * height + line) * width + left
      return start..<start + min(2, width - left)
    }
    var pixels = [UnsafeMutablePointer<Float>?](repeating: nil, count: 4)
    for (i, line) in lines.enumerated() {
      let isFilled = epilogue.fill(y, ld: columns, line, block)
      for (j, pixel) in line.enumerated() {
        let out = y + pixel * columns + block.lowerBound
        if !isFilled { out.update(repeating: 0, count: block.count) }
        pixels[2 * i + j] = out
      }
    }
    vm_winograd_output(m, matrix, block.count, pixels)
    for line in lines { epilogue.activate(y, ld: columns, line, block) }
  }
}
