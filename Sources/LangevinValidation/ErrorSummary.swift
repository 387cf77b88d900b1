import LangevinTensor

/// How far the elements of one output are from what they should be.
public struct ErrorSummary: Sendable, Hashable, Codable {
  /// A largest error and the one that a thousandth of the elements exceed.
  public struct Spread: Sendable, Hashable, Codable {
    /// Over all elements that were compared in float64.
    @CodableNumber public var maximum: Double
    /// The 99.9th percentile of the errors.
    @CodableNumber public var percentile: Double
  }

  /// In the output's unit.
  public var absolute: Spread
  /// In units in the last place of the output's dtype at the expected value.
  public var ulp: Spread
  /// Relative to what is allowed: up to 1 passes.
  public var relative: Spread
  /// The largest error relative to what is allowed in the last row of the output seen as [rows, last axis].
  @CodableNumber public var lastRow: Double
  /// The same in the last column.
  @CodableNumber public var lastColumn: Double
  /// Where `relative.maximum` is, one index an axis; empty where every element is exact.
  public var worst: [Int]
  /// The value that the device computed.
  @CodableNumber public var value: Double
  /// The value that the reference computed.
  @CodableNumber public var expected: Double
  /// How many elements were compared with float64.
  public var compared: Int

  /// The largest error relative to what is allowed, by the CPU device in float32 over all elements, where only a
  /// sample could be compared with float64; else 0. Where the two disagree it is by float64, at those elements.
  @CodableNumber public var relativeToDevice: Double = 0
  /// The CPU device's own largest error by float64 where the two disagree, relative to what is allowed; else 0.
  @CodableNumber public var referenceError: Double = 0

  /// The larger of both comparisons; up to 1 passes.
  public var ratio: Double { max(relative.maximum, relativeToDevice) }
}

extension DType {
  /// The distance between neighbouring numbers of this dtype at a value.
  func ulp(at value: Double) -> Double {
    guard value.isFinite else { return 1 }
    let (digits, least) =
      switch self {
      case .float32: (24, -126)
      case .float16: (11, -14)
      case .bfloat16: (8, -126)
      case .int32: (0, 0)
      }
    guard self != .int32 else { return 1 }
    let exponent = value == 0 ? least : max(Int(value.exponent), least)
    return Double(sign: .plus, exponent: exponent - digits + 1, significand: 1)
  }

  /// The allowed error of one element: the float32 computation's, and the rounding of its result.
  func allowance(_ bound: Double?, at target: Double) -> Double {
    guard let bound else { return 0 }
    return bound + smallest + (self == .float32 ? 0 : unitRoundoff * (abs(target) + bound))
  }

  /// The absolute error of a value; 0 where both are NaN or the value is the target rounded, which past the
  /// dtype's range is infinity.
  func error(_ value: Double, _ target: Double) -> Double {
    if value == target || (value.isNaN && target.isNaN) || value == round(target) { return 0 }
    let error = abs(value - target)
    return error.isNaN ? .infinity : error
  }
}

/// Collects errors element by element.
struct ErrorCollector {
  private let spec: TensorSpec
  private var absolute: [Double] = []
  private var ulp: [Double] = []
  private var relative: [Double] = []
  private var lastRow = 0.0
  private var lastColumn = 0.0
  private var worst: (element: Int, ratio: Double, value: Double, expected: Double)?

  init(_ spec: TensorSpec) { self.spec = spec }

  mutating func add(element: Int, value: Double, expected: Double, bound: Double?) {
    let error = spec.dtype.error(value, expected)
    let allowed = spec.dtype.allowance(bound, at: expected)
    let ratio = error == 0 ? 0 : error / allowed
    absolute.append(error)
    ulp.append(error / spec.dtype.ulp(at: expected))
    relative.append(ratio)
    let width = spec.shape.rank > 0 ? spec.shape[-1] : 1
    if element / width == spec.shape.count / width - 1 { lastRow = max(lastRow, ratio) }
    if element % width == width - 1 { lastColumn = max(lastColumn, ratio) }
    if ratio > worst?.ratio ?? 0 { worst = (element, ratio, value, expected) }
  }

  consuming func summary() -> ErrorSummary {
    func spread(_ values: [Double]) -> ErrorSummary.Spread {
      ErrorSummary.Spread(maximum: values.max() ?? 0, percentile: percentile(values, 0.999))
    }
    return ErrorSummary(
      absolute: spread(absolute), ulp: spread(ulp), relative: spread(relative), lastRow: lastRow,
      lastColumn: lastColumn, worst: worst.map { spec.shape.index(of: $0.element) } ?? [],
      value: worst?.value ?? 0, expected: worst?.expected ?? 0, compared: absolute.count)
  }
}

/// The least value that at least this share of the values does not exceed; 0 of none. Quickselect.
func percentile(_ values: [Double], _ share: Double) -> Double {
  guard !values.isEmpty else { return 0 }
  var values = values
  let target = min(values.count - 1, max(0, Int((Double(values.count) * share).rounded(.up)) - 1))
  var (low, high) = (0, values.count - 1)
  while low < high {
    let pivot = values[(low + high) / 2]
    var (i, j) = (low, high)
    while i <= j {
      while values[i] < pivot { i += 1 }
      while values[j] > pivot { j -= 1 }
      if i <= j {
        values.swapAt(i, j)
        i += 1
        j -= 1
      }
    }
    if target <= j { high = j } else if target >= i { low = i } else { break }
  }
  return values[target]
}
