import Foundation
import Langevin
import LangevinDoctor
import LangevinTensor

extension DeviceChoice {
  /// Opens the device. Which one `auto` takes and why is said on standard error, unless `isQuiet` leaves it at
  /// warnings. With `triesProcessor` drivers for the processor are tried too, which takes seconds.
  func opened(
    _ options: BackendOptions = BackendOptions(), fallback: Bool = true,
    among isCandidate: (any BackendProvider) -> Bool = { _ in true }, isQuiet: Bool = false,
    triesProcessor: Bool = false
  ) throws -> Device {
    try open(
      options, fallback: fallback, among: isCandidate, triesProcessor: triesProcessor, trying: Tool.selfTest,
      notice: { Output.notice($0, isQuiet: isQuiet) })
  }
}

extension Output {
  static func notice(_ notice: DeviceNotice, isQuiet: Bool = false) {
    switch notice {
    case .note(let line): if !isQuiet { note(line) }
    case .warning(let line): warning(line)
    }
  }
}

extension Tool {
  /// Tries a device in a process of its own: a driver that was never used may crash, or never come back. Throws
  /// `Interrupted`.
  static func selfTest(_ device: ListedDevice) throws -> SelfTest {
    do {
      return try Prober(executable: executable, patience: 60).ask(["self-test", device.name])
        .content(SelfTest.self)
    } catch {
      try Interrupt.check()
      return .failed("\(error)")
    }
  }
}
