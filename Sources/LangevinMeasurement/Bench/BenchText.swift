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
  /// The whole report in wide tables.
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
    parts += notes
    return parts.joined(separator: "\n\n") + "\n"
  }

  var rowTable: String {
    var table = MarkdownTable([
      suite == .ops ? "operation" : "workload", "device", "rank", "wall", "kernels", "launches", "GFLOP/s",
      "GB/s", "of ceiling", "load", "cold", "result",
    ])
    for row in rows {
      func cell<Value>(_ value: Value?, _ text: (Value) -> String) -> String { value.map(text) ?? "-" }
      table.add([
        row.title, row.device,
        cell(row.rank) { "\($0)" }, cell(row.wall) { $0.text }, row.kernelText,
        cell(row.launches) { "\($0)" }, cell(row.flopsPerSecond) { Units.number($0 * 1e-9) },
        cell(row.bytesPerSecond) { Units.number($0 * 1e-9) }, cell(row.fraction) { Units.percent($0) },
        cell(row.load) { Units.seconds($0) }, cell(row.cold) { Units.seconds($0) },
        row.result(emphasis: "**"),
      ])
    }
    return table.text
  }

  /// The report for a terminal, a line each: tables no wider than `width`.
  public func lines(width: Int) -> [String] {
    var lines = [
      "\(suite.rawValue)\(model.map { " of \($0)" } ?? ""), \(rounds) rounds, langevin \(version), \(date)"
    ]
    if isPartial { lines.append("partial: it was stopped, or a device failed, before all was measured") }
    var machines = TextTable([.left("device"), .left("what"), .right("arithmetic"), .right("memory")])
    for device in devices {
      machines.add([
        device.name, device.description + (device.failure.map { "; failed: \($0)" } ?? ""),
        device.ceilings.map { Units.flops($0.flops) } ?? "-",
        device.ceilings.map { Units.rate($0.bandwidth) } ?? "-",
      ])
    }
    let title = suite == .ops ? "operation" : "workload"
    var times = TextTable([
      .left(title), .left("device"), .right("rank"), .right("wall"), .right("kernels"), .right("cold"),
      .left("result"),
    ])
    var work = TextTable([
      .left(title), .left("device"), .right("load"), .right("launches"), .right("GFLOP/s"), .right("GB/s"),
      .right("of ceiling"),
    ])
    func cell<Value>(_ value: Value?, _ text: (Value) -> String) -> String { value.map(text) ?? "-" }
    for row in rows {
      times.add([
        row.title, row.device, cell(row.rank) { "\($0)" }, cell(row.wall) { $0.text }, row.kernelText,
        cell(row.cold) { Units.seconds($0) }, row.result(emphasis: ""),
      ])
      work.add([
        row.title, row.device, cell(row.load) { Units.seconds($0) }, cell(row.launches) { "\($0)" },
        cell(row.flopsPerSecond) { Units.number($0 * 1e-9) },
        cell(row.bytesPerSecond) { Units.number($0 * 1e-9) }, cell(row.fraction) { Units.percent($0) },
      ])
    }
    lines += [""] + machines.lines(width: width)
    lines += [""] + times.lines(width: width)
    lines += [""] + work.lines(width: width)
    lines += [
      "",
      "wall: from the call to an idle device, median ± half the distance between the quartiles; kernels: by the "
        + "device's clock; cold: the first run, which builds the kernels; rank: by wall time, among right results",
    ]
    return lines + notes
  }

  /// On figures that look wrong and are not.
  var notes: [String] {
    var notes: [String] = []
    if rows.contains(where: \.kernelsExceedWall) {
      notes.append(
        "* Longer than the wall time: kernels are timed in runs of their own, in a queue that records, which costs more "
          + "here than the host's part of a run.")
    }
    if rows.contains(where: { ($0.fraction ?? 0) > 1 }) {
      notes.append(
        "Above 100 % of a ceiling: data stayed in caches, which are faster than the memory that the ceiling is of; or "
          + "a kernel multiplies less than is counted, or narrower numbers, as Winograd's convolutions and bfloat16 "
          + "do; or the device ran faster than during the probe.")
    }
    return notes
  }
}

extension BenchReport.Row {
  /// Float32 goes without saying.
  var title: String { dtype == .float32 ? name : "\(name) \(dtype.rawValue)" }

  var kernelsExceedWall: Bool {
    guard let kernels, let wall else { return false }
    return kernels.median > wall.median
  }

  /// With a star for the note where it is longer than the wall time.
  var kernelText: String { (kernels?.text ?? "-") + (kernelsExceedWall ? " *" : "") }

  /// Whether it is right, or why there are no times; `emphasis` stands around bad news.
  func result(emphasis: String) -> String {
    func bad(_ words: String, _ rest: String) -> String { "\(emphasis)\(words)\(emphasis) \(rest)" }
    var result = verdict.isValidated ? verdict.note : bad("not validated:", verdict.note)
    if let failure { result = bad("failed:", failure) }
    if fallbacks > 0 { result += "; \(fallbacks) operations ran on the CPU" }
    if let decompositions, decompositions > 0 {
      result += "; \(decompositions) operations ran as simpler ones"
    }
    return result
  }
}

extension BenchComparison {
  private static let criterion =
    "Wall time. Faster or slower: the medians differ by more than either distance between quartiles, and by more "
    + "than \(Int(threshold * 100)) %."
  private static let titles = ["workload", "device", "before", "after", "speed", "verdict"]
  private var notes: [String] { remarks.map { "Mind: \($0)." } }

  private var cells: [[String]] {
    rows.map { row in
      [
        row.name, row.device, row.before?.text ?? "-", row.after?.text ?? "-",
        row.speedup.map { String(format: "%.2fx", $0) } ?? "-", row.verdict.rawValue,
      ]
    }
  }

  /// A table, what to mind, and a summary.
  public var markdown: String {
    var table = MarkdownTable(Self.titles)
    for row in cells { table.add(row) }
    return ([Self.criterion] + notes + [table.text, summary + "."]).joined(separator: "\n\n") + "\n"
  }

  /// The same for a terminal, a line each; the table is no wider than `width`.
  public func lines(width: Int) -> [String] {
    var table = TextTable(
      Self.titles.enumerated().map { (2...4).contains($0) ? .right($1) : .left($1) })
    for row in cells { table.add(row) }
    return [Self.criterion] + notes + [""] + table.lines(width: width) + ["", summary + "."]
  }
}
