/// How products of int8 round their left operand, as ggml's products of `q8_0` with `q8_0` do.
///
/// A row is cut into blocks of 32 numbers. With a the largest magnitude of a block, `leastMagnitude` at least, a number x
/// becomes q = round(x (127 / a)), halves away from zero, and stands for q (a / 127); all of it in float32. Of a block with
/// a number that is not finite every product is NaN. The product is the sum over the blocks of both scales times the sum
/// of q_x q_w, which is a whole number below 2^20.
public enum Int8Rounding {
  /// Numbers of a block.
  public static let count = 32
  /// What the largest magnitude becomes.
  public static let largest: Float = 127
  /// That of a block counts for no less: the inverse of its scale would leave float32.
  public static let leastMagnitude: Float = 0x1p-100
}

/// How products with a weight in blocks are computed.
public enum ProductArithmetic: String, Sendable, Hashable, Codable, CaseIterable {
  /// From the weight's numbers, in float32.
  case float32 = "f32"
  /// In int8 where the weight is in `q8_0` and its blocks lie along the inner axis, else as `float32`; see `Int8Rounding`.
  case int8
}

extension Tensor {
  /// What a product of int8 takes the rows of this left operand for: the same shape, float32. The last axis is a multiple
  /// of 32.
  func roundedToInt8() throws -> Tensor {
    let rows = shape.dimensions.dropLast()
    let x = try cast(to: .float32).reshaped(
      Shape(rows + [shape[-1] / Int8Rounding.count, Int8Rounding.count]))
    func constant(_ value: Float) throws -> Tensor { try .fill(value, [1], on: device) }
    let magnitude = try x.map(.abs).reduced(.maximum, axes: [-1]).maximum(
      constant(Int8Rounding.leastMagnitude))
    let steps = try x * (constant(Int8Rounding.largest) / magnitude)
    // Toward zero, and one further where half or more is left.
    let whole = try steps.cast(to: .int32).cast(to: .float32)
    let rest = try ((steps - whole) * 2).cast(to: .int32).cast(to: .float32)
    let rounded = try (whole + rest) * (magnitude / constant(Int8Rounding.largest))
    // x - x is NaN where x is not finite.
    return try (rounded + (x - x)).reshaped(shape)
  }
}
