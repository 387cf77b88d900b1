import CVectorMath
import LangevinTensor

/// Packed weights are [columns, rows] in float32, whatever they stand for: BLAS packs either order by itself, and a narrow
/// weight is widened once instead of at each call.
extension CPUBackend {
  /// A float32 linear weight stays as it lies in the file.
  public func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? {
    dtype == .float32 && shape.taps == 1 ? nil : shape.rows * shape.columns * 4
  }

  /// Throws `TensorError`.
  public func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    let spec = TensorSpec([shape.rows, shape.columns], source.dtype)
    guard let byteCount = packedByteCount(shape, source.dtype) else {
      return TensorView(storage: source.storage, offset: source.offset, spec: spec)
    }
    let storage = try pool.allocate(byteCount: byteCount)
    let target = TensorView(storage: storage, offset: 0, spec: TensorSpec(spec.shape))
    try record(nil, [source], target) {
      let x = try raw(source, "pack")
      let wide = source.dtype == .float32 ? nil : try pool.scratch(x.count)
      if let wide { widen(x, wide.floats) }
      arrange(wide?.floats ?? x.floats, shape, storage.floats)
      withExtendedLifetime(wide) {}
    }
    return TensorView(storage: storage, offset: 0, spec: spec)
  }

  /// Throws `TensorError`.
  public func unpack(_ weight: TensorView, into output: TensorView) throws {
    let (rows, columns) = (weight.shape[0], weight.shape[1])
    try record(nil, [weight], output) {
      let x = try raw(weight, "unpack").floats
      let y = try raw(output, "unpack")
      let wide = output.dtype == .float32 ? nil : try pool.scratch(rows * columns)
      let out = wide?.floats ?? y.floats
      parallelFor(rows, grain: max(elementGrain / max(columns, 1), 1)) { _, range in
        vm_transpose(
          x + range.lowerBound, rows, columns, range.count, out + range.lowerBound * columns, columns)
      }
      if let wide { round(wide.floats, y) }
    }
  }

  /// [columns, channels, taps] to [columns, taps, channels].
  private func arrange(_ x: UnsafePointer<Float>, _ shape: WeightShape, _ y: UnsafeMutablePointer<Float>) {
    let (taps, channels) = (shape.taps, shape.channels)
    parallelFor(shape.columns, grain: max(elementGrain / max(shape.rows, 1), 1)) { _, columns in
      for column in columns {
        vm_transpose(x + column * shape.rows, taps, channels, taps, y + column * shape.rows, channels)
      }
    }
  }
}
