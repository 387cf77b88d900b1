import Foundation
import Langevin
import LangevinValidation

extension MachineReport {
  /// The report for people.
  public var markdown: String {
    var parts = ["# What langevin \(version) does on this machine"]
    if isPartial { parts.append("**Partial:** it was stopped, or a device failed, before all was done.") }
    parts.append("Made on \(date).")
    parts += ["## Machine and versions", machineTable]
    parts += ["## Devices", deviceTable]
    parts += [
      "## Ceilings",
      "What a device reached in a probe of nothing but float32 multiply-adds in registers, and of nothing but reading "
        + "and writing blocks larger than its caches.",
      ceilingsTable,
    ]
    parts += ["## Validation", validationText]
    parts += ["## Products, convolution and attention"]
    if let operations { parts.append(operations.sections) } else { parts.append("Not measured.") }
    parts += ["## Denoising steps", stepsText]
    parts += ["## The picture", pictureText]
    return parts.joined(separator: "\n\n") + "\n"
  }

  private var machineTable: String {
    var table = MarkdownTable(["what", "value"])
    table.add(["processor", machine.processor])
    table.add(["cores", "\(machine.cores)"])
    table.add(["memory", Units.bytes(machine.memory)])
    table.add(["system", machine.system])
    table.add(["langevin", version])
    table.add(["Swift", machine.swift])
    table.add(["OpenBLAS", machine.blas])
    return table.text
  }

  private var deviceTable: String {
    let details = devices.map { $0.identity?.details ?? [] }
    // A column for whatever a device has to say, in the order in which it comes first.
    var columns: [String] = []
    for detail in details.joined() where !columns.contains(detail.name) { columns.append(detail.name) }
    var table = MarkdownTable(["device", "what"] + columns)
    for (device, details) in zip(devices, details) {
      // What the columns say is not said twice.
      let what = details.isEmpty ? device.summary : device.identity?.title ?? device.summary
      let failure = device.failure.map { "; **failed:** \($0)" } ?? ""
      let values = columns.map { column in details.first { $0.name == column }?.value ?? "-" }
      table.add([device.name, what + failure] + values)
    }
    return table.text
  }

  /// Of the benchmark of operations, or of any.
  func ceilings(of device: String) -> Ceilings? {
    ([operations].compactMap { $0 } + steps).lazy.flatMap(\.devices).first { $0.name == device }?.ceilings
  }

  private var ceilingsTable: String {
    var table = MarkdownTable(["device", "arithmetic", "memory"])
    for device in devices {
      let found = ceilings(of: device.name)
      table.add([
        device.name, found.map { Units.flops($0.flops) } ?? "-",
        found.map { Units.rate($0.bandwidth) } ?? "-",
      ])
    }
    return table.text
  }

  private var validationText: String {
    guard let validation else { return "Not validated." }
    var table = MarkdownTable(["operation"] + validation.devices.map(\.name))
    var names: [String] = []
    for verdict in validation.devices.flatMap(\.operations) where !names.contains(verdict.operation) {
      names.append(verdict.operation)
    }
    for name in names {
      table.add(
        [name]
          + validation.devices.map { device in
            guard let verdict = device.verdict(name) else { return "not run" }
            let skipped = verdict.skipped > 0 ? ", \(verdict.skipped) skipped" : ""
            return verdict.failed > 0
              ? "**\(verdict.failed) failed**, \(verdict.passed) passed\(skipped)"
              : "\(verdict.passed) passed\(skipped)"
          })
    }
    let failures = validation.devices.flatMap { device in
      device.cases.filter { $0.outcome == .failed }.map {
        "- \(device.name): \($0.name) \($0.dtype.rawValue): \($0.problem)"
      } + (device.failure.map { ["- \(device.name) was lost: \($0)"] } ?? [])
    }
    let intro =
      "Each operation against float64, in the shapes that find faults; every case three times on guarded buffers."
    return ([intro, table.text] + (failures.isEmpty ? [] : [failures.joined(separator: "\n")]))
      .joined(separator: "\n\n")
  }

  private var stepsText: String {
    guard !steps.isEmpty else { return "Not measured." }
    var table = MarkdownTable([
      "model", "device", "steps/s", "step", "kernels", "of ceiling", "first step", "loading", "result",
    ])
    for report in steps {
      for row in report.rows {
        func cell<Value>(_ value: Value?, _ text: (Value) -> String) -> String { value.map(text) ?? "-" }
        table.add([
          report.model ?? "", row.device, cell(row.wall) { Units.number(1 / $0.median) },
          cell(row.wall) { $0.text }, row.kernelText,
          cell(row.fraction) { Units.percent($0) }, cell(row.cold) { Units.seconds($0) },
          cell(row.load) { Units.seconds($0) },
          row.result(emphasis: "**"),
        ])
      }
    }
    let intro =
      "A step is the UNet on a guided pair, guidance and the sampler's update. The first step builds the kernels that nothing before it needed."
    return ([intro, table.text] + Set(steps.flatMap(\.notes)).sorted()).joined(separator: "\n\n")
  }

  private var pictureText: String {
    guard let first = pictures.first else { return "Not drawn." }
    var table = MarkdownTable(["device", "SHA-256 of the pixels", "largest difference to cpu", "seconds"])
    for picture in pictures {
      table.add([
        picture.device, picture.hash ?? "**failed:** \(picture.failure ?? "")",
        picture.difference.map { "\($0) of 255" } ?? "-",
        picture.seconds.map { Units.seconds($0) } ?? "-",
      ])
    }
    return "The shipped model, '\(first.prompt)', seed \(first.seed), \(first.steps) steps of DDIM.\n\n"
      + table.text
  }
}

extension BenchReport {
  /// The rows under a heading for each kind of operation.
  fileprivate var sections: String {
    var kinds: [String] = []
    func kind(_ row: Row) -> String { row.name.split(separator: " ").first.map(String.init) ?? row.name }
    for row in rows where !kinds.contains(kind(row)) { kinds.append(kind(row)) }
    let parts = kinds.map { name in
      var part = self
      part.rows = rows.filter { kind($0) == name }
      return "### \(name)\n\n\(part.rowTable)"
    }
    return (parts + notes).joined(separator: "\n\n")
  }
}

/// What changed from one machine report to another.
public struct MachineComparison: Sendable {
  /// Versions, drivers, validation and pictures that differ, a line each.
  public let changes: [String]
  /// The benchmarks that both have.
  public let benches: [(title: String, comparison: BenchComparison)]

  /// Sets two reports side by side.
  public init(_ before: MachineReport, _ after: MachineReport) {
    var changes: [String] = []
    func note(_ what: String, _ old: String?, _ new: String?) {
      if old != new { changes.append("\(what): \(old ?? "none"), then \(new ?? "none")") }
    }
    note("langevin", before.version, after.version)
    note("processor", before.machine.processor, after.machine.processor)
    note("cores", "\(before.machine.cores)", "\(after.machine.cores)")
    note("system", before.machine.system, after.machine.system)
    note("Swift", before.machine.swift, after.machine.swift)
    note("OpenBLAS", before.machine.blas, after.machine.blas)
    var names = before.devices.map(\.name)
    names += after.devices.map(\.name).filter { !names.contains($0) }
    for name in names {
      note(
        name, before.devices.first { $0.name == name }?.summary,
        after.devices.first { $0.name == name }?.summary)
      func ceilings(_ report: MachineReport) -> String? { report.ceilings(of: name)?.text }
      note("ceilings of \(name)", ceilings(before), ceilings(after))
      let verdicts = [before, after].map { $0.validation?.device(name)?.operations ?? [] }
      for verdict in verdicts[1] {
        guard let old = verdicts[0].first(where: { $0.operation == verdict.operation }) else { continue }
        note(
          "\(verdict.operation) on \(name)", old.passes ? "right" : "not validated",
          verdict.passes ? "right" : "not validated")
      }
      let pictures = [before, after].map { report in report.pictures.first { $0.device == name } }
      if let old = pictures[0], let new = pictures[1], old.steps == new.steps {
        note("the picture on \(name)", old.hash ?? old.failure, new.hash ?? new.failure)
      }
    }
    self.changes = changes

    var benches: [(title: String, comparison: BenchComparison)] = []
    if let old = before.operations, let new = after.operations {
      benches.append(("Operations", BenchComparison(old, new)))
    }
    for old in before.steps {
      guard let new = after.steps.first(where: { $0.model == old.model }) else { continue }
      benches.append(("Steps of \(old.model ?? "a model")", BenchComparison(old, new)))
    }
    self.benches = benches
  }

  /// The comparison as markdown.
  public var markdown: String {
    let list = changes.isEmpty ? "Nothing else changed." : changes.map { "- \($0)" }.joined(separator: "\n")
    return (["## Changes", list] + benches.flatMap { ["## \($0.title)", $0.comparison.markdown] })
      .joined(separator: "\n\n") + "\n"
  }

  /// The same for a terminal, a line each; tables are no wider than `width`.
  public func lines(width: Int) -> [String] {
    (changes.isEmpty ? ["Nothing else changed."] : changes)
      + benches.flatMap { ["", "\($0.title):"] + $0.comparison.lines(width: width) }
  }
}
