import CVectorMath
import LangevinTensor

/// Packed weights are [columns, rows] as they are stored: BLAS packs either order by itself, and a narrow weight is widened
/// panel by panel.
extension CPUBackend {
  /// A linear weight stays as it lies in the file.
  public func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? {
    shape.taps == 1 ? nil : shape.rows * shape.columns * dtype.byteCount
  }

  /// Throws `TensorError`.
  public func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    let spec = TensorSpec([shape.rows, shape.columns], source.dtype)
    guard let byteCount = packedByteCount(shape, source.dtype) else {
      return TensorView(storage: source.storage, offset: source.offset, spec: spec)
    }
    let storage = try pool.allocate(byteCount: byteCount)
    let target = TensorView(storage: storage, offset: 0, spec: spec)
    try record(nil, [source], target) { arrange(try raw(source, "pack"), shape, try raw(target, "pack")) }
    return target
  }

  /// Throws `TensorError`.
  public func unpack(_ weight: TensorView, into output: TensorView) throws {
    let (rows, columns) = (weight.shape[0], weight.shape[1])
    try record(nil, [weight], output) {
      let (x, y) = (try raw(weight, "unpack"), try raw(output, "unpack"))
      parallelFor(rows, grain: max(elementGrain / max(columns, 1), 1)) { _, range in
        let (from, to) = (range.lowerBound, range.lowerBound * columns)
        if x.isNarrow {
          vm_transpose_shorts(x.shorts + from, rows, columns, range.count, y.shorts + to, columns)
        } else {
          vm_transpose(x.floats + from, rows, columns, range.count, y.floats + to, columns)
        }
      }
    }
  }

  /// [columns, channels, taps] to [columns, taps, channels].
  private func arrange(_ x: RawArray, _ shape: WeightShape, _ y: RawArray) {
    let (taps, channels) = (shape.taps, shape.channels)
    parallelFor(shape.columns, grain: max(elementGrain / max(shape.rows, 1), 1)) { _, columns in
      for column in columns {
        let start = column * shape.rows
        if x.isNarrow {
          vm_transpose_shorts(x.shorts + start, taps, channels, taps, y.shorts + start, channels)
        } else {
          vm_transpose(x.floats + start, taps, channels, taps, y.floats + start, channels)
        }
      }
    }
  }
}
