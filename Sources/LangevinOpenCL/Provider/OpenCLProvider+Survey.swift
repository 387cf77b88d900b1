import Foundation
import LangevinTensor

extension OpenCLProvider {
  /// Every device, platform and driver, each tried, and why one cannot be used.
  public func survey() -> BackendSurvey {
    let loaderProblem = OpenCLLoader.problem
    let devices = OpenCLDevices.all(probe: true)
    let platforms = OpenCLDevices.platforms()
    let drivers = InstalledDriver.all()

    var lines = devices.flatMap(describe)
    for platform in platforms {
      if let problem = platform.problem {
        lines.append("platform \(platform.name), \(platform.version): cannot be used: \(problem)")
      }
    }
    for driver in drivers {
      if let problem = driver.problem { lines.append("\(driver.file): cannot be used: \(problem)") }
    }
    if let loaderProblem { lines.append("the OpenCL loader: cannot be used: \(loaderProblem)") }
    if devices.isEmpty {
      let reason = drivers.isEmpty ? "no OpenCL driver is installed" : "no OpenCL device was found"
      lines.append("\(reason); `langevin doctor` says what to do")
    }
    var values: [String: any Encodable & Sendable] = [
      name: devices, "platforms": platforms, "drivers": drivers,
    ]
    if let loaderProblem { values["loaderProblem"] = loaderProblem }
    return BackendSurvey(lines: lines, values: values)
  }

  private func describe(_ device: DeviceDescription) -> [String] {
    func yes(_ value: Bool) -> String { value ? "yes" : "no" }
    var lines = [
      "opencl:\(device.index): \(device.name)",
      "  platform \(device.platform), \(device.platformVersion)",
      "  \(device.version), driver \(device.driver), vendor \(device.vendor)",
      "  type \(device.type), \(device.computeUnits) compute units at \(device.clockMHz) MHz, "
        + "work-groups up to \(device.maxWorkGroupSize)",
      "  memory \(ByteCount.text(device.globalMemory)), one buffer up to "
        + "\(ByteCount.text(device.maxAllocation)), local \(ByteCount.text(device.localMemory))",
      "  vectors of \(device.vectorWidth.map(String.init) ?? "?") floats, fp16 \(yes(device.fp16)), "
        + "fp64 \(yes(device.fp64)), bf16 pairs \(yes(device.bfloat16Pairs)), "
        + "int8 products \(yes(device.byteProducts)), "
        + "subgroups \(yes(device.subgroups)), images \(yes(device.images))",
    ]
    if let kernels = device.kernels {
      lines.append("  \(kernels.family.rawValue) kernels, \(kernels.reason)")
    }
    if let tuning = KeptTuning.of(device) {
      lines.append("  tuned: \(tuning.summary) (`langevin tune --list`)")
    }
    lines.append(device.problem.map { "  cannot be used: \($0)" } ?? "  usable")
    return lines
  }
}
