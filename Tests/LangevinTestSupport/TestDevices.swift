import LangevinCPU
import LangevinOpenCL
import LangevinTensor

/// The devices on which results must agree.
public enum TestDevices {
  /// The CPU backend and each OpenCL device, which gets no help from the CPU, opened anew: each suite that records has
  /// its own.
  public static func open() -> [Device] {
    do {
      return [Device(CPUBackend())]
        + (try OpenCLDevices.all().map { Device(try OpenCLBackend(index: $0.index)) })
    } catch {
      preconditionFailure("an OpenCL device does not open: \(error)")
    }
  }
}

/// An OpenCL device of this machine in one of both kernel families: a CPU device runs the GPU kernels too, slowly but to
/// the same numbers.
public struct TestDevice: Sendable, CustomStringConvertible {
  /// `opencl:INDEX`.
  public let index: Int
  /// Which kernels it runs.
  public let family: KernelFamily
  /// The platform's name.
  public let name: String

  /// For the names of test cases.
  public var description: String { "\(name) with \(family.rawValue) kernels" }

  /// The device. Throws what opening it throws.
  public func open() throws -> Device { Device(try OpenCLBackend(index: index, family: family)) }

  /// All of them.
  public static let all: [TestDevice] = OpenCLDevices.all().flatMap { device in
    KernelFamily.allCases.map { TestDevice(index: device.index, family: $0, name: device.platform) }
  }
}
