import Foundation
import LangevinTensor
import Logging

/// Which form of the kernels a device runs, and why.
public struct FamilyChoice: Sendable, Hashable, Codable {
  /// `cpu` or `gpu`.
  public var family: KernelFamily
  /// For a listing: `the device's type`, `measured: …`.
  public var reason: String

  /// A device's own kind decides, but for those that call themselves a processor and have no vectors, as Mesa's
  /// llvmpipe: there both forms are timed once, which takes seconds, and the result is kept in `folder`.
  static func of(
    _ device: DeviceDescription, sources: @autoclosure () -> String, folder: URL?, logger: Logger,
    measure: (KernelFamily) throws -> Double
  ) throws -> FamilyChoice {
    guard isInDoubt(device) else {
      return FamilyChoice(family: device.isCPU ? .cpu : .gpu, reason: "by the device's type")
    }
    let key = [device.platform, device.platformVersion, device.name, device.driver, sources()]
    let name = FNV.name(key.joined(separator: "\n"))
    let file = folder?.appendingPathComponent("family-\(name).json")
    if let data = file.flatMap({ try? Data(contentsOf: $0) }),
      let known = try? JSONDecoder().decode(FamilyChoice.self, from: data)
    {
      return known
    }
    // The graphics cards' first: they compile faster.
    var seconds: [KernelFamily: Double] = [:]
    var problem: (any Error)?
    for family in [KernelFamily.gpu, .cpu] {
      do { seconds[family] = try measure(family) } catch {
        problem = error
        logger.info("opencl:\(device.index): the \(family.rawValue) kernels cannot be measured: \(error)")
      }
    }
    guard let best = seconds.min(by: { ($0.value, $0.key.rawValue) < ($1.value, $1.key.rawValue) }) else {
      throw problem
        ?? OpenCLError.unusable(device: "opencl:\(device.index)", reason: "nothing could be measured")
    }
    func words(_ family: KernelFamily) -> String {
      seconds[family].map { String(format: "%.2f ms", $0 * 1000) } ?? "a failure"
    }
    let other: KernelFamily = best.key == .cpu ? .gpu : .cpu
    let choice = FamilyChoice(
      family: best.key,
      reason: "measured: \(words(best.key)), with \(other.rawValue) kernels \(words(other))")
    if let file {
      try? FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try? JSONEncoder().encode(choice).write(to: file, options: .atomic)
    }
    return choice
  }

  /// Whether a device's type may mislead.
  static func isInDoubt(_ device: DeviceDescription) -> Bool {
    device.isCPU && (device.vectorWidth ?? 16) < 4
  }

  /// Seconds of a product and of an attention, the best of a few runs, compiled before.
  static func seconds(on backend: OpenCLBackend) throws -> Double {
    let device = Device(backend)
    let x = try Tensor.normal([1, 256, 256], seed: 1, on: device)
    let weight = try Tensor.normal([256, 256], seed: 2, on: device)
    func run() throws {
      let y = try x.matmul(weight)
      _ = try y.attention(keys: x, values: x, heads: 4)
      try backend.synchronize()
    }
    try run()
    let clock = ContinuousClock()
    return try (0..<3).map { _ in try clock.measure(run) / .seconds(1) }.min() ?? 0
  }
}
