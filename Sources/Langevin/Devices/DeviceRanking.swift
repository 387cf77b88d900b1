import Foundation
import LangevinTensor

/// What is said to the user while a device is chosen.
public enum DeviceNotice: Sendable, Hashable {
  /// Which device is taken and why, and what is waited for.
  case note(String)
  /// A device is left out, or something could not be kept.
  case warning(String)
}

/// Devices by their speed on a small step.
public struct DeviceRanking: Sendable {
  /// A device that passed its self-test.
  public struct Place: Sendable, Hashable {
    public var device: ListedDevice
    /// Of a small step (`SelfTest`).
    public var seconds: Double

    /// A device, and its figure.
    public init(device: ListedDevice, seconds: Double) { (self.device, self.seconds) = (device, seconds) }

    /// `8.1 ms`.
    public var figure: String { Self.figure(seconds) }

    static func figure(_ seconds: Double) -> String {
      let value = seconds * 1e3
      return String(format: value < 1 ? "%.3f ms" : value < 100 ? "%.1f ms" : "%.0f ms", value)
    }
  }

  /// A device that cannot be used, and why, in one line.
  public struct LeftOut: Sendable, Hashable {
    public var device: ListedDevice
    public var reason: String

    /// `opencl:0 (a card) is left out: it is older than OpenCL 1.2`.
    var warning: DeviceNotice {
      .warning("\(device.name)\(device.title.map { " (\($0))" } ?? "") is left out: \(reason)")
    }
  }

  /// The fastest first.
  public let places: [Place]
  /// Those that cannot be used.
  public let leftOut: [LeftOut]

  /// Ranks those that pass. One that was never measured with this driver and these kernels is tried.
  ///
  /// - Parameters:
  ///   - devices: which are asked.
  ///   - kept: figures of earlier trials.
  ///   - anew: tries those too that were measured.
  ///   - test: what tries a device.
  ///   - notice: told which devices are tried, and which are left out and why.
  ///
  /// Throws what `test` throws.
  public init(
    of devices: [ListedDevice], kept: KeptSpeeds = KeptSpeeds(), anew: Bool = false,
    trying test: SelfTest.Runner = SelfTest.run(on:), notice: (DeviceNotice) -> Void
  ) throws {
    var leftOut: [LeftOut] = []
    func leaveOut(_ device: ListedDevice, _ reason: String) {
      leftOut.append(LeftOut(device: device, reason: reason))
      notice(leftOut[leftOut.count - 1].warning)
    }
    for device in devices { if let problem = device.problem { leaveOut(device, problem) } }
    let usable = devices.filter { $0.problem == nil }
    let unknown = usable.filter { anew || kept.seconds(of: $0) == nil }
    if !unknown.isEmpty {
      notice(.note("trying a small step on \(unknown.map(\.name).joined(separator: ", ")), once"))
    }
    var notKept: String?
    places = try usable.compactMap { device in
      if !anew, let seconds = kept.seconds(of: device) { return Place(device: device, seconds: seconds) }
      switch try test(device) {
      case .failed(let reason):
        kept.forget(device)
        leaveOut(device, "its self-test failed: \(reason)")
        return nil
      case .passed(let seconds):
        do { try kept.keep(seconds, of: device) } catch { notKept = "\(error)" }
        return Place(device: device, seconds: seconds)
      }
    }.sorted { $0.seconds < $1.seconds }
    self.leftOut = leftOut
    if let notKept { notice(.warning(notKept)) }
  }

  /// `a small step takes 8.1 ms on opencl:0, 9.3 ms on cpu`.
  public var summary: String {
    "a small step takes " + places.map { "\($0.figure) on \($0.device.name)" }.joined(separator: ", ")
  }
}
