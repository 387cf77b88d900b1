import ArgumentParser
import Foundation
import Langevin
import LangevinJSON
import LangevinMeasurement
import LangevinTensor

/// `langevin tune --list` and `--reset`: what earlier searches have kept on disk.
enum KeptTunings {
  /// A table for each device and driver.
  static func show() {
    let all = all()
    for tuning in all {
      Output.wrapped(title(tuning))
      var table = TextTable([.left("operation and sizes from"), .right("gain"), .left("parameters")])
      for row in tuning.rows {
        let note = row.isOfTheseKernels ? "" : " (of other kernels: not used)"
        table.add([row.key, String(format: "%.2fx", row.gain), row.parameters + note])
      }
      for line in table.lines(width: Terminal.tableWidth) { Output.result(line) }
    }
    if all.isEmpty { Output.note("nothing was tuned yet") }
  }

  /// Forgets what is kept for a device, or for `all`.
  static func reset(_ device: String) throws {
    let kept =
      device == "all"
      ? all()
      : [
        try DeviceChoice.parse(device).opened(among: { $0 is any TuningProvider }).tunable.keptTuning
      ].compactMap { $0 }
    for tuning in kept {
      try tuning.remove()
      Output.result("forgotten: \(title(tuning))")
    }
    if kept.isEmpty { Output.note("nothing was tuned\(device == "all" ? "" : " on \(device)")") }
  }

  /// Adds what is kept for a device to a table that ships.
  static func export(_ device: String, to url: URL) throws {
    try OutputFile.check(url)
    let table: Data?
    do { table = Data(try RegularFile.contents(path: url.path)) } catch .missing { table = nil } catch {
      throw CheckpointError.unreadable(path: url.path, reason: "it is no table of kernel parameters")
    }
    let open = try DeviceChoice.parse(device).opened(among: { $0 is any TuningProvider })
    let data = try open.tunable.exportedTuning(into: table)
    guard data != table else {
      return Output.note("nothing was found on \(open.label) that is faster than what ships")
    }
    try data.withUnsafeBytes { try OutputFile.write($0, to: url) }
    Output.result("\(Output.path(url)): with what was found on \(open.label)")
  }

  /// Of every provider whose backends are tuned.
  private static func all() -> [KeptTuning] {
    BackendRegistry.providers.compactMap { $0 as? any TuningProvider }.flatMap { $0.keptTunings() }
  }

  /// `NAME (PLATFORM, driver 1.2): 7 shapes, since 2026-01-31 12:00`.
  private static func title(_ tuning: KeptTuning) -> String {
    "\(tuning.device) (\(tuning.platform), driver \(tuning.driver)): \(tuning.summary)"
  }
}
