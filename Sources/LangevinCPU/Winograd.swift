import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// The convolution of x, and the epilogue, into y. `eachPart` hands over the panels of the weight [9 C, columns], some
  /// after others. `zeros` are as many as there are channels.
  ///
  /// Each pixel is one sum in one order, however the work is shared out.
  func convolve(
    _ tiles: WinogradTiles, _ x: UnsafePointer<Float>, zeros: UnsafePointer<Float>,
    _ epilogue: EpilogueOperands, into y: UnsafeMutablePointer<Float>,
    _ eachPart: (_ body: (Panels) throws -> Void) throws -> Void
  ) throws {
    let (channels, columns) = (tiles.channels, tiles.columns)
    let (side, matrices) = (Int32(tiles.side), tiles.matrices)
    let v = try pool.scratch(matrices * tiles.run * channels)
    let m = try pool.scratch(matrices * tiles.run * columns)

    func transformInput(_ run: Range<Int>) {
      parallelFor(run.count, grain: 8) { _, range in
        withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: matrices) { window in
          for i in range {
            tiles.window(run.lowerBound + i, of: x, zeros, into: window)
            vm_winograd_input(
              side, window.baseAddress, channels, v.floats + i * channels, run.count * channels)
          }
        }
      }
    }
    /// `matrix` numbers lie between those of u, which have these columns. All products are one loop: each alone is so
    /// short that the cores would wait for each other longer than they compute.
    func multiply(_ run: Range<Int>, _ u: CPUStorage, matrix: Int, _ part: Range<Int>) {
      let tasks = ProductTasks(rows: run.count, columns: part)
      parallelFor(matrices * tasks.count, grain: 1) { _, range in
        withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: ProductTasks.mostRows) {
          left in
          for index in range {
            let (number, (rows, some)) = (index / tasks.count, tasks[index % tasks.count])
            let first = number * run.count + rows.lowerBound
            for i in 0..<rows.count { left[i] = UnsafePointer(v.floats + (first + i) * channels) }
            vm_product(
              left.baseAddress, 1, channels, rows.count,
              u.floats + number * matrix + (some.lowerBound - part.lowerBound) * channels, some.count,
              m.floats + first * columns + some.lowerBound, columns, 0, tiles.longestSum ?? Panels.longestSum)
          }
        }
      }
    }
    func transformOutput(_ run: Range<Int>) {
      parallelFor(run.count, grain: 8) { _, range in
        for i in range {
          tiles.write(
            run.lowerBound + i, m.floats + i * columns, matrix: run.count * columns, epilogue, into: y)
        }
      }
    }

    if tiles.isOneRun {
      // Each weight is used once: it is transformed just before.
      transformInput(0..<tiles.count)
      try eachPart { panels in
        let matrix = panels.count * channels * 32
        let u = try pool.scratch(matrices * matrix)
        transform(panels, tiles, into: u.floats, matrix: matrix)
        multiply(0..<tiles.count, u, matrix: matrix, panels.columns)
      }
      transformOutput(0..<tiles.count)
    } else {
      let matrix = (columns + 31) / 32 * 32 * channels
      let u = try pool.scratch(matrices * matrix)
      try eachPart {
        transform($0, tiles, into: u.floats + $0.columns.lowerBound * channels, matrix: matrix)
      }
      for run in tiles.runs {
        transformInput(run)
        multiply(run, u, matrix: matrix, 0..<columns)
        transformOutput(run)
      }
    }
    withExtendedLifetime((v, m)) {}
  }

  /// Panels to their places in the matrices [channels, columns].
  private func transform(
    _ panels: Panels, _ tiles: WinogradTiles, into u: UnsafeMutablePointer<Float>, matrix: Int
  ) {
    parallelFor(panels.count, grain: 1) { _, range in
      for panel in range {
        vm_winograd_weights(
          Int32(tiles.side), panels.from(column: panels.columns.lowerBound + panel * 32), tiles.channels,
          u + panel * tiles.channels * 32, matrix)
      }
    }
  }
}

extension WinogradTiles {
  /// Which image a tile is of, and its first pixel there.
  private func place(_ tile: Int) -> (image: Int, top: Int, left: Int) {
    (tile / (tileRows * tileColumns), tile / tileColumns % tileRows * side, tile % tileColumns * side)
  }

  /// Where the pixels of a tile's window are, row by row; `zeros` beside the picture.
  fileprivate func window(
    _ tile: Int, of x: UnsafePointer<Float>, _ zeros: UnsafePointer<Float>,
    into pixels: UnsafeMutableBufferPointer<UnsafePointer<Float>?>
  ) {
    let (height, width) = (input[1], input[2])
    let (image, top, left) = place(tile)
    for i in 0..<matrices {
      let (line, column) = (top - padTop + i / window, left - padLeft + i % window)
      let isInside = (0..<height).contains(line) && (0..<width).contains(column)
      pixels[i] = isInside ? x + ((image * height + line) * width + column) * channels : zeros
    }
  }

  /// Writes the pixels of a tile from its rows `matrix` apart.
  fileprivate func write(
    _ tile: Int, _ m: UnsafePointer<Float>, matrix: Int, _ epilogue: EpilogueOperands,
    into y: UnsafeMutablePointer<Float>
  ) {
    let (height, width) = (output[1], output[2])
    let (image, top, left) = place(tile)
    let lines = (top..<min(top + side, height)).map { line in
      let start = (image * height + line) * width + left
      return start..<start + min(side, width - left)
    }
    var pixels = [UnsafeMutablePointer<Float>?](repeating: nil, count: side * side)
    for (i, line) in lines.enumerated() {
      let isFilled = epilogue.fill(y + line.lowerBound * columns, ld: columns, line, 0..<columns)
      for (j, pixel) in line.enumerated() {
        let out = y + pixel * columns
        if !isFilled { out.update(repeating: 0, count: columns) }
        pixels[side * i + j] = out
      }
    }
    vm_winograd_output(Int32(side), m, matrix, columns, pixels)
    for line in lines {
      epilogue.activate(y + line.lowerBound * columns, ld: columns, line, 0..<columns)
    }
  }
}
