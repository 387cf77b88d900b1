import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor

/// Every device on which training must agree with the reference: the CPU backend and each OpenCL device, which gets no
/// help from the CPU.
let devices: [Device] = [Device(CPUBackend())] + openCLDevices

private let openCLDevices: [Device] = {
  do {
    return try OpenCLDevices.all().map { Device(try OpenCLBackend(index: $0.index)) }
  } catch {
    preconditionFailure("an OpenCL device does not open: \(error)")
  }
}()
