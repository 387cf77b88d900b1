/// How one element is stored. Arithmetic is float32 whatever the storage.
public enum DType: String, Sendable, Hashable, CaseIterable, Codable {
  case float32, float16, bfloat16, int32

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .float32, .int32: 4
    case .float16, .bfloat16: 2
    }
  }

  /// Whether arithmetic takes it.
  public var isFloatingPoint: Bool { self != .int32 }
}

/// Bit-level conversions of bfloat16, which Swift has no type for.
public enum BFloat16 {
  /// Rounds to nearest, ties to even; a NaN stays a NaN.
  public static func bits(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if value.isNaN { return UInt16(bits >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) >> 16)
  }

  /// Widens bfloat16's bits to a float, exactly.
  public static func float(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }
}
