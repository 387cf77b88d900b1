import LangevinOpenCL
import LangevinTensor

/// Every OpenCL device of this machine in both kernel families: a CPU device runs the GPU kernels too, slowly
/// but to the same numbers.
struct TestDevice: Sendable, CustomStringConvertible {
  let index: Int
  let family: KernelFamily
  let name: String

  var description: String { "\(name) with \(family.rawValue) kernels" }

  func open() throws -> Device { Device(try OpenCLBackend(index: index, family: family)) }

  static let all: [TestDevice] = OpenCLDevices.all().flatMap { device in
    KernelFamily.allCases.map { TestDevice(index: device.index, family: $0, name: device.platform) }
  }
}
