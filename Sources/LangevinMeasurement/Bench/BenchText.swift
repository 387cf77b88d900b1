import Foundation

/// A table in markdown that is readable as text too.
struct MarkdownTable {
  private let titles: [String]
  private var rows: [[String]] = []

  init(_ titles: [String]) { self.titles = titles }

  /// As many cells as there are titles.
  mutating func add(_ cells: [String]) {
    precondition(cells.count == titles.count)
    rows.append(cells.map { $0.replacing("|", with: "\\|").replacing("\n", with: " ") })
  }

  var isEmpty: Bool { rows.isEmpty }

  var text: String {
    let widths = titles.indices.map { column in
      max(3, ([titles] + rows).map { $0[column].count }.max() ?? 0)
    }
    func line(_ cells: [String]) -> String {
      let padded = zip(cells, widths).map { cell, width in
        cell + String(repeating: " ", count: width - cell.count)
      }
      return "| " + padded.joined(separator: " | ") + " |"
    }
    let rule = "|" + widths.map { String(repeating: "-", count: $0 + 2) }.joined(separator: "|") + "|"
    return ([line(titles), rule] + rows.map(line)).joined(separator: "\n")
  }
}

extension Sample {
  /// The median in its unit, with the distance between the quartiles in percent of it.
  var text: String {
    values.count > 1
      ? "\(Units.seconds(median)) ± \(String(format: "%.0f", spread * 50)) %" : Units.seconds(median)
  }
}

extension Ceilings {
  /// Both, in a line.
  public var text: String { "\(Units.flops(flops)), \(Units.rate(bandwidth))" }
}

extension BenchReport {
  /// The whole report for people; also what the tool prints.
  public var markdown: String {
    var parts = ["# langevin bench: \(suite.rawValue)\(model.map { ", \($0)" } ?? "")"]
    if isPartial { parts.append("**Partial:** it was stopped, or a device failed, before all was measured.") }
    parts.append(
      "langevin \(version), \(date), \(rounds) rounds in which the devices take turns. Wall: from the call to an "
        + "idle device, the median and half the distance between the quartiles. Kernels: the sum over a run by "
        + "the device's clock. GFLOP/s, GB/s and the share of the ceilings are by the kernels' time; what stays in caches "
        + "can pass the ceiling of memory. Cold: the first run, with building the kernels. Rank: by wall time, "
        + "among validated results.")
    var machines = MarkdownTable(["device", "what", "ceilings: arithmetic, memory"])
    for device in devices {
      machines.add([
        device.name, device.description + (device.failure.map { "; **failed:** \($0)" } ?? ""),
        device.ceilings?.text ?? "-",
      ])
    }
    parts.append(machines.text)
    parts.append(rowTable)
    return parts.joined(separator: "\n\n") + "\n"
  }

  var rowTable: String {
    var table = MarkdownTable([
      suite == .ops ? "operation" : "workload", "device", "rank", "wall", "kernels", "launches", "GFLOP/s",
      "GB/s", "of ceiling", "load", "cold", "result",
    ])
    for row in rows {
      func cell<Value>(_ value: Value?, _ text: (Value) -> String) -> String { value.map(text) ?? "-" }
      var result = row.verdict.isValidated ? row.verdict.note : "**not validated:** \(row.verdict.note)"
      if let failure = row.failure { result = "**failed:** \(failure)" }
      if row.fallbacks > 0 { result += "; \(row.fallbacks) operations ran on the CPU" }
      table.add([
        row.dtype == .float32 ? row.name : "\(row.name) \(row.dtype.rawValue)", row.device,
        cell(row.rank) { "\($0)" }, cell(row.wall) { $0.text }, cell(row.kernels) { $0.text },
        cell(row.launches) { "\($0)" }, cell(row.flopsPerSecond) { Units.number($0 * 1e-9) },
        cell(row.bytesPerSecond) { Units.number($0 * 1e-9) }, cell(row.fraction) { Units.percent($0) },
        cell(row.load) { Units.seconds($0) }, cell(row.cold) { Units.seconds($0) }, result,
      ])
    }
    return table.text
  }
}

extension BenchComparison {
  /// A table, what to mind, and a summary.
  public var markdown: String {
    var table = MarkdownTable(["workload", "device", "before", "after", "speed", "verdict"])
    for row in rows {
      table.add([
        row.name, row.device, row.before?.text ?? "-", row.after?.text ?? "-",
        row.speedup.map { String(format: "%.2fx", $0) } ?? "-", row.verdict.rawValue,
      ])
    }
    let criterion =
      "Wall time. Faster or slower: the medians differ by more than either distance between quartiles, and by more "
      + "than \(Int(BenchComparison.threshold * 100)) %."
    let notes = remarks.map { "Mind: \($0)." }
    return ([criterion] + notes + [table.text, summary + "."]).joined(separator: "\n\n") + "\n"
  }
}
