import Foundation

extension Profile {
  /// The profile for a terminal, a line each: stages, operations, layers, and what else was counted. Tables are no
  /// wider than `width` where names can give way.
  public func lines(width: Int) -> [String] {
    let ridge = ceilings.flops / ceilings.bandwidth
    var lines = [
      "device \(device): at most \(Units.flops(ceilings.flops)) and \(Units.rate(ceilings.bandwidth)), so "
        + String(format: "compute-bound from %.1f FLOP/B; `bound by` has the share of that ceiling", ridge),
      "",
    ]
    if isPartial { lines.insert("partial: the run was stopped before its end", at: 0) }
    lines += stageTable.lines(width: width)
    for (title, rows) in [("operations", operations), ("layers", layers)] {
      lines += ["", "\(title), without loading:"]
      lines += Profile.table(rows, total: deviceSeconds).lines(width: width)
    }
    if (operations + layers).contains(where: { $0.ofCeiling > 1 }) {
      lines.append(
        "above 100 % of a ceiling: data stayed in caches, which are faster than the memory that the ceiling is of; or "
          + "a kernel multiplies less than is counted, or narrower numbers, as Winograd's convolutions and bfloat16 "
          + "do; or the device ran faster than during the probe")
    }
    return lines + [""] + summary
  }

  private var stageTable: TextTable {
    var table = TextTable([
      .left("stage"), .right("time"), .right("share"), .right("on device"), .right("launches"),
      .right("memory peak"),
    ])
    for stage in stages {
      table.add([
        stage.count > 1 ? "\(stage.name) (\(stage.count))" : stage.name, Units.seconds(stage.seconds),
        Units.percent(stage.share), Units.seconds(stage.deviceSeconds), "\(stage.launches)",
        stage.launches > 0 ? Units.bytes(stage.memory) : "",
      ])
    }
    let accounted = stages.reduce(0) { $0 + $1.seconds }
    table.add([
      "all", Units.seconds(seconds), Units.percent(seconds > 0 ? accounted / seconds : 0),
      Units.seconds(stages.reduce(0) { $0 + $1.deviceSeconds }), "\(launches)",
      Units.bytes(stages.map(\.memory).max() ?? 0),
    ])
    return table
  }

  private static func table(_ rows: [Row], total: Double) -> TextTable {
    var table = TextTable([
      .left("name"), .right("calls"), .right("launches"), .right("time"), .right("share"), .right("GFLOP/s"),
      .right("GB/s"), .right("bound by"),
    ])
    for row in rows {
      table.add([
        row.name, "\(row.operations)", "\(row.launches)", Units.seconds(row.seconds),
        Units.percent(row.share), Units.number(row.flopsPerSecond * 1e-9),
        Units.number(row.bytesPerSecond * 1e-9), "\(row.bound.rawValue) \(Units.percent(row.ofCeiling))",
      ])
    }
    table.add([
      "all", "\(rows.reduce(0) { $0 + $1.operations })", "\(rows.reduce(0) { $0 + $1.launches })",
      Units.seconds(total), Units.percent(rows.reduce(0) { $0 + $1.share }), "", "", "",
    ])
    return table
  }

  private var summary: [String] {
    var lines = [
      "queue gaps: \(Units.seconds(gaps.seconds)), \(Units.percent(gaps.share)) of the device's time without loading; "
        + "\(gaps.count) longer than \(Units.seconds(Gaps.threshold)), the longest \(Units.seconds(gaps.longest))"
    ]
    if let host = hostPerLaunch {
      lines.append(
        "kernel launches: \(launches); the host spends \(Units.seconds(host.median)) on each (median; "
          + "99 of 100 under \(Units.seconds(host.percentile99))), \(Units.seconds(host.total)) in all")
    } else {
      lines.append("kernel launches: \(launches), each computed by the host itself")
    }
    for (name, copies) in [("uploaded", uploads), ("downloaded", downloads)] {
      let waits = name == "downloaded" ? " with waiting" : ""
      lines.append(
        "\(name): \(Units.bytes(copies.bytes)) in \(copies.count) copies, \(Units.seconds(copies.seconds))"
          + waits)
    }
    if fallbacks.operations == 0 {
      lines.append("fallbacks: none")
    } else {
      lines.append(
        "fallbacks: \(fallbacks.operations) operations (\(OperationNames.text(fallbacks.byName))), "
          + "\(Units.seconds(fallbacks.seconds)) on the CPU, \(Units.bytes(fallbacks.bytes)) copied")
    }
    let decomposed = decompositions.values.reduce(0, +)
    if decomposed > 0 {
      lines.append(
        "decomposed: \(decomposed) operations (\(OperationNames.text(decompositions))) ran as simpler ones")
    }
    if let stepsPerSecond, let median = Sample(stepSeconds)?.median {
      lines.append(
        String(format: "steps: %d, %.3f steps/s; median %@", steps, stepsPerSecond, Units.seconds(median)))
    }
    if let overhead, let plain = Sample(unrecordedStepSeconds) {
      let (share, others) = (
        Units.percent(abs(overhead)), "\(Units.seconds(plain.median)) (median of \(plain.values.count))"
      )
      // Recording cannot make a step faster.
      lines.append(
        overhead > 0
          ? "recording makes a step \(share) longer than the \(others) that it takes unrecorded"
          : "recording costs less than steps differ: recorded ones were \(share) shorter than the unrecorded \(others)"
      )
    } else {
      let busy = stages.reduce(0) { $0 + $1.deviceSeconds }
      lines.append("kernels fill \(Units.percent(seconds > 0 ? busy / seconds : 0)) of the recorded time")
    }
    return lines
  }
}
