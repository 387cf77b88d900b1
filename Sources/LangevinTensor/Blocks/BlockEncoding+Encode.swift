/// Numbers to blocks. `q8_0`, `q5_0` and `q4_0` are what `gguf.quants.quantize` writes, bit by bit, which is what ggml's own
/// reference functions do; ggml has several ways for the others, and theirs here is the plain one.
extension BlockEncoding {
  /// The blocks of finite numbers, whose count is a multiple of `elementCount`, to `out`, which has room for
  /// `byteCount(values.count)` bytes.
  ///
  /// How far a number comes back from where it was, besides the rounding of the scales to float16: with a the largest
  /// magnitude of its block, a / 254 for `q8_0`, a / 16 for `q5_0` and a / 8 for `q4_0`, whose range has one step less on one
  /// side; for `q6_K` with a of its group and b of its block, a / 32 + b / 127; for `q4_K` with the range r of its group and
  /// the largest range R and minimum m of its block, r / 30 + R / 63 + |m| / 63.
  public func encode(_ values: UnsafeBufferPointer<Float>, into out: UnsafeMutableRawBufferPointer) {
    let count = values.count / elementCount
    precondition(count * elementCount == values.count && byteCount(values.count) <= out.count)
    guard let numbers = values.baseAddress, let bytes = out.bindMemory(to: UInt8.self).baseAddress else {
      return
    }
    for block in 0..<count { encode(numbers + block * elementCount, bytes + block * byteCount) }
  }

  private func encode(_ x: UnsafePointer<Float>, _ block: UnsafeMutablePointer<UInt8>) {
    block.update(repeating: 0, count: byteCount)
    switch self {
    case .q8:
      let scale = abs(extreme(x, 32)) / 127
      write(scale, block)
      let inverse = scale == 0 ? 0 : 1 / scale
      for i in 0..<32 {
        let q = clamp((x[i] * inverse).rounded(.toNearestOrAwayFromZero), -128, 127)
        block[2 + i] = UInt8(bitPattern: Int8(q))
      }
    case .q5:
      let scale = extreme(x, 32) / -16
      write(scale, block)
      for i in 0..<32 {
        let q = shifted(x[i], scale, 16.5, 31)
        block[6 + i % 16] |= i < 16 ? q & 15 : q << 4
        block[2 + i / 8] |= (q >> 4) << UInt8(i % 8)
      }
    case .q4:
      let scale = extreme(x, 32) / -8
      write(scale, block)
      for i in 0..<32 { block[2 + i % 16] |= shifted(x[i], scale, 8.5, 15) << (i < 16 ? 0 : 4) }
    case .q4K: encodeGroupsWithMinima(x, block)
    case .q6K: encodeGroups(x, block)
    }
  }

  /// The number of largest magnitude, the first of several.
  private func extreme(_ x: UnsafePointer<Float>, _ count: Int) -> Float {
    var found = x[0]
    for i in 1..<count where abs(x[i]) > abs(found) { found = x[i] }
    return found
  }

  /// A whole number from 0 to `most`; NaN, as of infinity by zero, becomes 0.
  private func shifted(_ x: Float, _ scale: Float, _ offset: Float, _ most: Float) -> UInt8 {
    let inverse = scale == 0 ? 0 : 1 / scale
    return UInt8(clamp(x * inverse + offset, 0, most))
  }

  private func clamp(_ x: Float, _ lower: Float, _ upper: Float) -> Float {
    x.isNaN ? 0 : min(max(x, lower), upper)
  }

  private func write(_ scale: Float, _ bytes: UnsafeMutablePointer<UInt8>) {
    let bits = Float16(scale).bitPattern
    (bytes[0], bytes[1]) = (UInt8(bits & 255), UInt8(bits >> 8))
  }

  /// As it comes back from a block.
  private func rounded(_ scale: Float) -> Float { Float(Float16(scale)) }

  /// `q4_K`: a group's numbers are between its minimum, 0 at most, and its maximum.
  private func encodeGroupsWithMinima(_ x: UnsafePointer<Float>, _ block: UnsafeMutablePointer<UInt8>) {
    var (scales, minima) = ([Float](repeating: 0, count: 8), [Float](repeating: 0, count: 8))
    for group in 0..<8 {
      let numbers = UnsafeBufferPointer(start: x + group * 32, count: 32)
      let (lower, upper) = (min(numbers.min() ?? 0, 0), numbers.max() ?? 0)
      (scales[group], minima[group]) = (max(upper - lower, 0) / 15, -lower)
    }
    let (scale, least) = ((scales.max() ?? 0) / 63, (minima.max() ?? 0) / 63)
    write(scale, block)
    write(least, block + 2)
    let (d, m) = (rounded(scale), rounded(least))
    for group in 0..<8 {
      let bits = SixBits(
        scale: UInt8(clamp((scales[group] / d).rounded(), 0, 63)),
        minimum: UInt8(clamp((minima[group] / m).rounded(), 0, 63)))
      bits.write(to: block + 4, group)
      let (step, lower) = (d * Float(bits.scale), m * Float(bits.minimum))
      for i in 0..<32 {
        let q = UInt8(clamp(((x[group * 32 + i] + lower) / step).rounded(), 0, 15))
        block[16 + group / 2 * 32 + i] |= group % 2 == 0 ? q : q << 4
      }
    }
  }

  /// `q6_K`: a group's number of largest magnitude becomes -32 steps.
  private func encodeGroups(_ x: UnsafePointer<Float>, _ block: UnsafeMutablePointer<UInt8>) {
    var scales = (0..<16).map { extreme(x + $0 * 16, 16) / -32 }
    let scale = scales.withUnsafeBufferPointer { extreme($0.baseAddress ?? x, 16) } / -128
    write(scale, block + 208)
    let d = rounded(scale)
    for group in 0..<16 {
      scales[group] = clamp((scales[group] / d).rounded(), -128, 127)
      block[192 + group] = UInt8(bitPattern: Int8(scales[group]))
    }
    for i in 0..<256 {
      let step = d * scales[i / 16]
      let q = UInt8(clamp((x[i] / step).rounded(), -32, 31) + 32)
      let (part, quarter, place) = (i / 128, i / 32 % 4, i % 32)
      block[part * 64 + quarter % 2 * 32 + place] |= quarter < 2 ? q & 15 : q << 4
      block[128 + part * 32 + place] |= (q >> 4) << UInt8(2 * quarter)
    }
  }
}
