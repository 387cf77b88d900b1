/// Numbers in blocks that share a scale: ggml's types of these names, bit by bit as its files have them.
///
/// A block holds `elementCount` numbers that follow one another in memory. On a device the blocks of a tensor are int32
/// words, the last one filled up; each device reads them as they are. The layouts are those of ggml-common.h.
public enum BlockEncoding: String, Sendable, Hashable, CaseIterable, Codable {
  /// 32 numbers: a float16 scale and 8 bits each.
  case q8 = "q8_0"
  /// 32 numbers: a float16 scale and 5 bits each, from -16 to 15.
  case q5 = "q5_0"
  /// 32 numbers: a float16 scale and 4 bits each, from -8 to 7.
  case q4 = "q4_0"
  /// 256 numbers: two float16 scales, of the 6-bit scales and of the 6-bit minima of groups of 32; 4 bits each.
  case q4K = "q4_K"
  /// 256 numbers: a float16 scale of the 8-bit scales of groups of 16; 6 bits each, from -32 to 31.
  case q6K = "q6_K"

  /// Numbers of a block.
  public var elementCount: Int {
    switch self {
    case .q8, .q5, .q4: 32
    case .q4K, .q6K: 256
    }
  }

  /// Bytes of a block.
  public var byteCount: Int {
    switch self {
    case .q8: 2 + 32
    case .q5: 2 + 4 + 16
    case .q4: 2 + 16
    case .q4K: 2 + 2 + 12 + 128
    case .q6K: 128 + 64 + 16 + 2
    }
  }

  /// Bytes of so many numbers, a multiple of `elementCount`.
  public func byteCount(_ count: Int) -> Int { count / elementCount * byteCount }

  /// How a device holds so many numbers, a multiple of `elementCount`.
  public func spec(_ count: Int) -> TensorSpec { TensorSpec([(byteCount(count) + 3) / 4], .int32) }

  /// How many numbers a tensor of words holds; nil where it is not one of whole blocks.
  public func count(_ words: TensorSpec) -> Int? {
    guard words.dtype == .int32, words.shape.rank == 1 else { return nil }
    let count = words.byteCount / byteCount * elementCount
    return spec(count) == words ? count : nil
  }

  /// Where a block's float16 numbers begin.
  public var scaleOffsets: [Int] {
    switch self {
    case .q8, .q5, .q4: [0]
    case .q4K: [0, 2]
    case .q6K: [208]
    }
  }
}

extension BlockEncoding {
  /// The numbers of whole blocks, which come one after another: what `gguf.quants.dequantize` gives, bit by bit. `out` has
  /// room for all of them.
  public func decode(_ blocks: UnsafeRawBufferPointer, into out: UnsafeMutableBufferPointer<Float>) {
    let count = blocks.count / byteCount
    precondition(count * byteCount == blocks.count && count * elementCount <= out.count)
    guard let bytes = blocks.bindMemory(to: UInt8.self).baseAddress, let numbers = out.baseAddress else {
      return
    }
    for block in 0..<count { decode(bytes + block * byteCount, numbers + block * elementCount) }
  }

  private func decode(_ block: UnsafePointer<UInt8>, _ out: UnsafeMutablePointer<Float>) {
    switch self {
    case .q8:
      let scale = half(block)
      for i in 0..<32 { out[i] = scale * Float(Int8(bitPattern: block[2 + i])) }
    case .q5:
      let scale = half(block)
      let high = (0..<4).reduce(UInt32(0)) { $0 | UInt32(block[2 + $1]) << UInt32(8 * $1) }
      for i in 0..<32 {
        let low = i < 16 ? block[6 + i] & 15 : block[6 + i - 16] >> 4
        out[i] = scale * Float(Int(low) + Int(high >> UInt32(i) & 1) * 16 - 16)
      }
    case .q4:
      let scale = half(block)
      for i in 0..<32 {
        let bits = i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4
        out[i] = scale * Float(Int(bits) - 8)
      }
    case .q4K:
      let (scale, least) = (half(block), half(block + 2))
      for group in 0..<8 {
        let packed = SixBits(block + 4, group)
        let (factor, minimum) = (scale * Float(packed.scale), least * Float(packed.minimum))
        let bytes = block + 16 + group / 2 * 32
        for i in 0..<32 {
          let bits = group % 2 == 0 ? bytes[i] & 15 : bytes[i] >> 4
          out[group * 32 + i] = factor * Float(bits) - minimum
        }
      }
    case .q6K:
      let scale = half(block + 208)
      for i in 0..<256 {
        // Halves of 128, in which quarters of 32 share their bytes.
        let (part, quarter, place) = (i / 128, i / 32 % 4, i % 32)
        let byte = block[part * 64 + quarter % 2 * 32 + place]
        let low = quarter < 2 ? byte & 15 : byte >> 4
        let high = block[128 + part * 32 + place] >> UInt8(2 * quarter) & 3
        let factor = scale * Float(Int8(bitPattern: block[192 + i / 16]))
        out[i] = factor * Float(Int(low) + Int(high) * 16 - 32)
      }
    }
  }

  /// A little-endian float16, widened.
  private func half(_ bytes: UnsafePointer<UInt8>) -> Float {
    Float(Float16(bitPattern: UInt16(bytes[0]) | UInt16(bytes[1]) << 8))
  }
}

/// The scale and the minimum of a group of `q4_K`, 6 bits each: of the first four groups in bytes of their own, whose upper
/// bits are those of the last four.
struct SixBits {
  var scale, minimum: UInt8

  init(scale: UInt8, minimum: UInt8) { (self.scale, self.minimum) = (scale, minimum) }

  init(_ bytes: UnsafePointer<UInt8>, _ group: Int) {
    if group < 4 {
      (scale, minimum) = (bytes[group] & 63, bytes[group + 4] & 63)
    } else {
      scale = bytes[group + 4] & 15 | (bytes[group - 4] >> 6) << 4
      minimum = bytes[group + 4] >> 4 | (bytes[group] >> 6) << 4
    }
  }

  /// Adds the group's bits to twelve bytes that begin as zeros.
  func write(to bytes: UnsafeMutablePointer<UInt8>, _ group: Int) {
    if group < 4 {
      bytes[group] |= scale
      bytes[group + 4] |= minimum
    } else {
      bytes[group + 4] |= scale & 15 | minimum << 4
      bytes[group - 4] |= (scale >> 4) << 6
      bytes[group] |= (minimum >> 4) << 6
    }
  }
}
