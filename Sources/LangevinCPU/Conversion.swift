import CVectorMath
import LangevinTensor

/// Conversions between dtypes, and what depends on how an element is stored.
extension CPUBackend {
  /// Any dtype to float32.
  func widen(_ x: RawArray, _ out: UnsafeMutablePointer<Float>) {
    parallelFor(x.count, grain: elementGrain) { _, range in
      x.widened(range.lowerBound, range.count, out + range.lowerBound)
    }
  }

  /// float32 to any dtype.
  func round(_ x: UnsafePointer<Float>, _ out: RawArray) {
    parallelFor(out.count, grain: elementGrain) { _, range in
      out.rounded(x + range.lowerBound, range.lowerBound, range.count)
    }
  }

  func cast(_ x: RawArray, _ y: RawArray) throws {
    if x.spec.dtype == y.spec.dtype {
      y.pointer.copyMemory(from: x.pointer, byteCount: x.spec.byteCount)
    } else if x.spec.dtype == .float32 {
      round(x.floats, y)
    } else if y.spec.dtype == .float32 {
      widen(x, y.floats)
    } else {
      let wide = try pool.scratch(x.count)
      widen(x, wide.floats)
      round(wide.floats, y)
    }
  }

  func fill(_ value: Float, _ y: RawArray) {
    let element = bits(of: value, y.spec.dtype)
    parallelFor(y.count, grain: elementGrain) { _, range in
      if y.isNarrow {
        (y.shorts + range.lowerBound).update(
          repeating: UInt16(truncatingIfNeeded: element), count: range.count)
      } else {
        (y.words + range.lowerBound).update(repeating: element, count: range.count)
      }
    }
  }

  func nonFiniteCount(_ x: RawArray, _ y: RawArray) throws {
    let wide = x.spec.dtype == .float32 ? nil : try pool.scratch(x.count)
    if let wide { widen(x, wide.floats) }
    let floats = wide?.floats ?? x.floats
    y.ints[0] = Int32(clamping: vm_count_non_finite(floats, x.count))
    withExtendedLifetime(wide) {}
  }

  /// The stored form of a number, in the low bits.
  func bits(of value: Float, _ dtype: DType) -> UInt32 {
    var (value, short, int) = (value, UInt16(0), Int32(0))
    switch dtype {
    case .float32: return value.bitPattern
    case .float16: vm_float_to_half(&value, &short, 1)
    case .bfloat16: vm_float_to_bfloat(&value, &short, 1)
    case .int32:
      vm_float_to_int(&value, &int, 1)
      return UInt32(bitPattern: int)
    }
    return UInt32(short)
  }
}

extension RawArray {
  /// Some elements as float32.
  func widened(_ start: Int, _ count: Int, _ out: UnsafeMutablePointer<Float>) {
    switch spec.dtype {
    case .float32: out.update(from: floats + start, count: count)
    case .float16: vm_half_to_float(shorts + start, out, count)
    case .bfloat16: vm_bfloat_to_float(shorts + start, out, count)
    case .int32: vm_int_to_float(ints + start, out, count)
    }
  }

  /// Sets some elements from float32.
  func rounded(_ x: UnsafePointer<Float>, _ start: Int, _ count: Int) {
    switch spec.dtype {
    case .float32: (floats + start).update(from: x, count: count)
    case .float16: vm_float_to_half(x, shorts + start, count)
    case .bfloat16: vm_float_to_bfloat(x, shorts + start, count)
    case .int32: vm_float_to_int(x, ints + start, count)
    }
  }
}
