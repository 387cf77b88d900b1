import Foundation
import LangevinTensor

/// Numbers as people read them.
enum Units {
  /// `1.23 s`, `4.56 ms`, `7.8 µs`.
  static func seconds(_ value: Double) -> String {
    switch abs(value) {
    case 1...: String(format: "%.2f s", value)
    case 1e-3...: String(format: "%.2f ms", value * 1e3)
    case 0: "0 s"
    default: String(format: "%.1f µs", value * 1e6)
    }
  }

  static func percent(_ fraction: Double) -> String { String(format: "%.1f %%", fraction * 100) }

  /// Three significant digits; `-` for none.
  static func number(_ value: Double) -> String {
    switch abs(value) {
    case 0: "-"
    case 100...: String(format: "%.0f", value)
    case 10...: String(format: "%.1f", value)
    case 1...: String(format: "%.2f", value)
    default: String(format: "%.3f", value)
    }
  }

  static func bytes(_ count: Int) -> String { ByteCount.text(count) }
  static func flops(_ value: Double) -> String { scaled(value, "FLOP/s") }
  static func rate(_ value: Double) -> String { scaled(value, "B/s") }

  private static func scaled(_ value: Double, _ unit: String) -> String {
    value >= 1e12 ? "\(number(value * 1e-12)) T\(unit)" : "\(number(value * 1e-9)) G\(unit)"
  }
}

/// Operations and how often they ran.
package enum OperationNames {
  /// `attention 12, softmax 3`: the most frequent first.
  package static func text(_ counts: [String: Int]) -> String {
    counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \($0.value)" }
      .joined(separator: ", ")
  }
}
