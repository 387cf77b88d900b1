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
  /// llvmpipe: there both forms are tried once, which takes seconds, and the result is kept in `folder`. The quicker one
  /// of those whose numbers are right runs.
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

  /// Seconds of a convolution and of an attention, the best of a few runs, compiled before.
  ///
  /// Throws `OpenCLError.unusable` where the convolution is wrong: a kernel that does not finish its work is
  /// quick. The llvmpipe of Mesa 22 leaves a kernel's loops after 65,535 turns in all, without an error.
  static func seconds(on backend: OpenCLBackend) throws -> Double {
    let device = Device(backend)
    let (side, channels, outputs) = (8, 256, 128)
    let ones = [Float](repeating: 1, count: max(2 * side * side, 9 * outputs) * channels)
    func filled(_ shape: Shape) throws -> Tensor {
      try Tensor(Array(ones.prefix(shape.count)), shape, on: device)
    }
    let x = try filled([2, side, side, channels])
    let weight = try filled([outputs, channels, 3, 3])
    let matrix = try Weight(convolution: weight)
    let tokens = try x.reshaped([2, side * side, channels])
    func run() throws -> Tensor {
      let y = try x.conv2d(matrix, kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))
      _ = try tokens.attention(keys: tokens, values: tokens, heads: 4)
      try backend.synchronize()
      return y
    }
    // Of ones, each output is the number of inputs that it sees, exactly.
    func seen(_ place: Int) -> Int { place == 0 || place == side - 1 ? 2 : 3 }
    let result = try run().floats()
    for (index, value) in result.enumerated() {
      let pixel = index / outputs % (side * side)
      guard value == Float(seen(pixel / side) * seen(pixel % side) * channels) else {
        throw OpenCLError.unusable(
          device: backend.name, reason: "the \(backend.family.rawValue) kernels give wrong numbers")
      }
    }
    let clock = ContinuousClock()
    return try (0..<3).map { _ in try clock.measure { _ = try run() } / .seconds(1) }.min() ?? 0
  }
}
