import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import Logging

/// Which device a user asked for.
public enum DeviceChoice: Sendable, Hashable, CustomStringConvertible {
  /// The fastest kind of OpenCL device that there is; the CPU backend where there is none.
  case automatic
  /// The CPU backend over OpenBLAS.
  case cpu
  /// One OpenCL device; without a number as `automatic`, but never the CPU backend.
  case openCL(Int?)

  /// Nil unless the text is `auto`, `cpu`, `opencl` or `opencl:N`.
  public init?(_ text: String) {
    switch text {
    case "auto": self = .automatic
    case "cpu": self = .cpu
    case "opencl": self = .openCL(nil)
    default:
      guard text.hasPrefix("opencl:"), let index = Int(text.dropFirst(7)), index >= 0 else { return nil }
      self = .openCL(index)
    }
  }

  /// As `init` reads it.
  public var description: String {
    switch self {
    case .automatic: "auto"
    case .cpu: "cpu"
    case .openCL(nil): "opencl"
    case .openCL(let index?): "opencl:\(index)"
    }
  }

  /// Opens the device.
  ///
  /// - Parameters:
  ///   - fallback: whether operations without a kernel may run on the CPU backend; they are counted.
  ///   - memoryLimit: bytes that the device may use, where less than it has.
  ///   - logger: told of damaged or refused entries of the program cache.
  ///   - notice: told in one line when `automatic` found no OpenCL device and took the CPU.
  ///
  /// Throws `OpenCLError` where the device asked for is not there or cannot be used.
  public func open(
    fallback: Bool = true, memoryLimit: Int? = nil, logger: Logger = Logger(label: "langevin.opencl"),
    notice: (String) -> Void = { _ in }
  ) throws -> Device {
    func openCL(_ index: Int) throws -> Device {
      let backend = try OpenCLBackend(index: index, memoryLimit: memoryLimit, logger: logger)
      return Device(backend, fallback: fallback ? CPUBackend() : nil)
    }
    switch self {
    case .cpu: return Device(CPUBackend())
    case .openCL(let index?): return try openCL(index)
    case .openCL(nil):
      guard let index = DeviceChoice.preferred() else { throw OpenCLError.noSuchDevice(index: 0, found: 0) }
      return try openCL(index)
    case .automatic:
      var reason = "there is no OpenCL device here"
      if let index = DeviceChoice.preferred() {
        do { return try openCL(index) } catch { reason = "\(error)" }
      }
      notice("using the CPU backend: \(reason) (`langevin devices` says more)")
      return Device(CPUBackend())
    }
  }

  /// The first usable device of the best kind: GPU, accelerator, CPU.
  private static func preferred() -> Int? {
    let usable = OpenCLDevices.all().filter { $0.problem == nil }
    for type in ["gpu", "accelerator", "cpu", "other"] {
      if let device = usable.first(where: { $0.type == type }) { return device.index }
    }
    return nil
  }
}
