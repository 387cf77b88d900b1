import Foundation
import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor

/// The CPU backend and each OpenCL device, which gets no help from the CPU; each suite that records has its own.
func openDevices() -> [Device] {
  do {
    return [Device(CPUBackend())]
      + (try OpenCLDevices.all().map { Device(try OpenCLBackend(index: $0.index)) })
  } catch {
    preconditionFailure("an OpenCL device does not open: \(error)")
  }
}

/// Tests/Golden/Fixtures.
let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appending(path: "Golden/Fixtures")
