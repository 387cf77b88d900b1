import Foundation

/// What became faster or slower from one report to another.
///
/// Two medians differ beyond the noise where they differ by more than either sample's distance between quartiles,
/// and by more than 3% of the first.
public struct BenchComparison: Sendable {
  /// What is said of a row.
  public enum Verdict: String, Sendable, CaseIterable {
    /// The second is faster by more than the noise.
    case faster
    /// Beyond the noise, as `faster`.
    case slower
    /// No difference that counts.
    case same = "within the noise"
    /// One of the two results was not validated, so speed does not count.
    case invalid = "not validated"
    /// Only one of the reports has times.
    case missing = "not in both"
  }

  /// One row of both reports.
  public struct Row: Sendable {
    /// The workload's name.
    public let name: String
    /// The device's name.
    public let device: String
    /// Of the first report, in seconds.
    public let before: Sample?
    /// What the second report measured; nil where it has no such row.
    public let after: Sample?
    /// What is said of the two.
    public let verdict: Verdict
    /// How many times as fast the second is.
    public var speedup: Double? {
      guard let before, let after, after.median > 0 else { return nil }
      return before.median / after.median
    }
  }

  /// Below this share of the median a difference counts as noise.
  public static let threshold = 0.03

  /// In the order of the first report, then what only the second has.
  public let rows: [Row]
  /// What makes the two hard to compare.
  public let remarks: [String]

  /// Compares samples of seconds.
  public static func verdict(_ before: Sample, _ after: Sample) -> Verdict {
    func range(_ sample: Sample) -> Double { sample.quartiles.upper - sample.quartiles.lower }
    let difference = after.median - before.median
    let noise = max(range(before), range(after), threshold * before.median)
    return abs(difference) <= noise ? .same : difference < 0 ? .faster : .slower
  }

  /// Sets the rows of the same name and device side by side, by wall time.
  public init(_ before: BenchReport, _ after: BenchReport) {
    struct Key: Hashable { let name, device: String, dtype: String }
    func keyed(_ report: BenchReport) -> [(Key, BenchReport.Row)] {
      report.rows.map { (Key(name: $0.name, device: $0.device, dtype: $0.dtype.rawValue), $0) }
    }
    let (old, new) = (keyed(before), keyed(after))
    let known = Dictionary(new, uniquingKeysWith: { first, _ in first })
    let names = Set(old.map(\.0))
    rows =
      old.map { BenchComparison.row($1, known[$0]) }
      + new.filter { !names.contains($0.0) }.map { BenchComparison.row(nil, $0.1) }

    var remarks: [String] = []
    if before.suite != after.suite {
      remarks.append("the first is of the suite \(before.suite), the second of \(after.suite)")
    }
    if before.model != after.model {
      remarks.append(
        "the first is of \(before.model ?? "no model"), the second of \(after.model ?? "no model")")
    }
    for device in after.devices {
      guard let other = before.devices.first(where: { $0.name == device.name }) else { continue }
      if other.description != device.description {
        remarks.append("\(device.name) was \(other.description) and is \(device.description)")
      }
    }
    for (report, which) in [(before, "first"), (after, "second")] where report.isPartial {
      remarks.append("the \(which) is partial")
    }
    self.remarks = remarks
  }

  private static func row(_ before: BenchReport.Row?, _ after: BenchReport.Row?) -> Row {
    let (old, new) = (before?.wall, after?.wall)
    let verdict: Verdict =
      if let before, let after, let old, let new {
        before.verdict.isValidated && after.verdict.isValidated ? self.verdict(old, new) : .invalid
      } else { .missing }
    let either = before ?? after
    return Row(
      name: either?.name ?? "", device: either?.device ?? "", before: old, after: new, verdict: verdict)
  }

  /// One line on how many rows are what.
  public var summary: String {
    Verdict.allCases.compactMap { verdict in
      let count = rows.count { $0.verdict == verdict }
      return count == 0 ? nil : "\(count) \(verdict.rawValue)"
    }.joined(separator: ", ")
  }
}
