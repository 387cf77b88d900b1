import CVectorMath
import LangevinTensor

/// Operations that move elements without looking at them: they work on any dtype as it is stored.
extension CPUBackend {
  func transpose(_ permutation: [Int], _ x: RawArray, _ y: RawArray) {
    let strides = x.shape.strides
    copyStrided(x, strides: permutation.map { strides[$0] }, offset: 0, y)
  }

  func broadcast(_ x: RawArray, _ y: RawArray) {
    copyStrided(x, strides: x.shape.broadcastStrides(to: y.shape), offset: 0, y)
  }

  func slice(_ slice: Slice, _ x: RawArray, _ y: RawArray) {
    let strides = x.shape.strides
    copyStrided(x, strides: strides, offset: zip(slice.starts, strides).reduce(0) { $0 + $1.0 * $1.1 }, y)
  }

  func concatenate(_ axis: Int, _ x: [RawArray], _ y: RawArray) {
    let width = y.spec.dtype.byteCount
    let inner = Shape(Array(y.shape.dimensions.dropFirst(axis + 1))).count * width
    let outer = Shape(Array(y.shape.dimensions.prefix(axis))).count
    let rowBytes = inner * y.shape[axis]
    parallelFor(outer, grain: max(elementGrain * 4 / max(rowBytes, 1), 1)) { _, rows in
      for row in rows {
        var target = y.pointer + row * rowBytes
        for input in x {
          let bytes = inner * input.shape[axis]
          target.copyMemory(from: input.pointer + row * bytes, byteCount: bytes)
          target += bytes
        }
      }
    }
  }

  func pad(_ pad: Pad, _ x: RawArray, _ y: RawArray) {
    fill(pad.value, y)
    guard x.count > 0, x.shape.rank > 0 else {
      if x.count > 0 { y.pointer.copyMemory(from: x.pointer, byteCount: x.spec.byteCount) }
      return
    }
    // Rows of the input are contiguous in the output too.
    let width = y.spec.dtype.byteCount
    let strides = y.shape.strides
    let start = zip(pad.before, strides).reduce(0) { $0 + $1.0 * $1.1 }
    let rowBytes = x.shape[-1] * width
    let rowShape = Shape(Array(x.shape.dimensions.dropLast()))
    let loop = StridedLoop(Shape(rowShape.dimensions + [1]), [Array(strides.dropLast()) + [1]])
    let (inner, step) = (loop.inner, loop.innerStrides[0])
    loop.forEachRow(grain: max(elementGrain / max(inner * x.shape[-1], 1), 1)) { row, offsets in
      for i in 0..<inner {
        let target = y.pointer + (start + offsets[0] + i * step) * width
        target.copyMemory(from: x.pointer + (row * inner + i) * rowBytes, byteCount: rowBytes)
      }
    }
  }

  func upsampleNearest(_ factor: Int, _ x: RawArray, _ y: RawArray) {
    let pixelBytes = x.shape[3] * x.spec.dtype.byteCount
    let (width, outWidth) = (x.shape[2], y.shape[2])
    parallelFor(y.shape[0] * y.shape[1], grain: 1) { _, rows in
      for row in rows {
        let (image, line) = (row / y.shape[1], row % y.shape[1])
        let source = x.pointer + (image * x.shape[1] + line / factor) * width * pixelBytes
        var target = y.pointer + row * outWidth * pixelBytes
        for column in 0..<width {
          for _ in 0..<factor {
            target.copyMemory(from: source + column * pixelBytes, byteCount: pixelBytes)
            target += pixelBytes
          }
        }
      }
    }
  }

  /// Throws `TensorError.deviceFailure` for an id outside the table.
  func embedding(_ table: RawArray, _ ids: RawArray, _ y: RawArray) throws {
    let rowCount = table.shape[0]
    for i in 0..<ids.count where !(0..<rowCount).contains(Int(ids.ints[i])) {
      throw TensorError.deviceFailure(
        device: name, operation: "embedding",
        reason: "id \(ids.ints[i]) is outside the table of \(rowCount) rows")
    }
    let rowBytes = table.shape[1] * table.spec.dtype.byteCount
    parallelFor(ids.count, grain: max(elementGrain * 4 / max(rowBytes, 1), 1)) { _, range in
      for i in range {
        (y.pointer + i * rowBytes).copyMemory(
          from: table.pointer + Int(ids.ints[i]) * rowBytes, byteCount: rowBytes)
      }
    }
  }

  /// y's element at an index is x's at offset + index . strides.
  private func copyStrided(_ x: RawArray, strides: [Int], offset: Int, _ y: RawArray) {
    if y.spec.dtype.byteCount == 2 {
      copyStrided(x.shorts + offset, strides, y.shape, y.shorts)
    } else {
      copyStrided(x.words + offset, strides, y.shape, y.words)
    }
  }

  private func copyStrided<Element: BitwiseCopyable>(
    _ x: UnsafePointer<Element>, _ strides: [Int], _ shape: Shape, _ y: UnsafeMutablePointer<Element>
  ) {
    let loop = StridedLoop(shape, [strides])
    let (inner, step) = (loop.inner, loop.innerStrides[0])
    if step > 1, let axis = loop.outer.indices.first(where: { loop.outerStride(operand: 0, axis: $0) == 1 }) {
      return transpose(x, loop, axis, y)
    }
    loop.forEachRow(grain: max(elementGrain / inner, 1)) { row, offsets in
      let (source, target) = (x + offsets[0], y + row * inner)
      switch step {
      case 1: target.update(from: source, count: inner)
      case 0: target.update(repeating: source[0], count: inner)
      default: for i in 0..<inner { target[i] = source[i * step] }
      }
    }
  }

  /// The walk's copy where the elements that `axis` crosses are neighbours in x: matrices turned over, which read and
  /// write whole lines.
  private func transpose<Element: BitwiseCopyable>(
    _ x: UnsafePointer<Element>, _ loop: StridedLoop, _ axis: Int, _ y: UnsafeMutablePointer<Element>
  ) {
    let (inner, step) = (loop.inner, loop.innerStrides[0])
    let targetStrides = Shape(loop.outer + [inner]).strides
    let width = 64
    let parts = (loop.outer[axis] + width - 1) / width
    parallelFor(
      loop.rowCount / loop.outer[axis] * parts, grain: max(elementGrain / (inner * width), 1)
    ) { _, tasks in
      for task in tasks {
        let first = task % parts * width
        var (rest, source, target) = (task / parts, first, first * targetStrides[axis])
        for other in loop.outer.indices where other != axis {
          let index = rest % loop.outer[other]
          rest /= loop.outer[other]
          source += index * loop.outerStride(operand: 0, axis: other)
          target += index * targetStrides[other]
        }
        transpose(
          x + source, step, rows: inner, columns: min(width, loop.outer[axis] - first), y + target,
          targetStrides[axis])
      }
    }
  }

  /// y [columns, rows] from x [rows, columns]; rows lie a stride apart.
  private func transpose<Element: BitwiseCopyable>(
    _ x: UnsafePointer<Element>, _ step: Int, rows: Int, columns: Int,
    _ y: UnsafeMutablePointer<Element>, _ stride: Int
  ) {
    guard MemoryLayout<Element>.size == MemoryLayout<Float>.size else {
      for row in 0..<rows { for column in 0..<columns { y[column * stride + row] = x[row * step + column] } }
      return
    }
    vm_transpose(
      UnsafeRawPointer(x).assumingMemoryBound(to: Float.self), step, rows, columns,
      UnsafeMutableRawPointer(y).assumingMemoryBound(to: Float.self), stride)
  }
}
