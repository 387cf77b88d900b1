import ArgumentParser
import Foundation
import Langevin

/// `langevin devices`.
struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists every device, what was probed of it, and why one cannot be used.",
    discussion: """
      Examples:
        langevin devices
        langevin devices --json
      """)

  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    let listing = Listing()
    if json { try Output.json(listing) } else { for line in listing.lines { Output.wrapped(line) } }
  }
}

/// Everything that could compute here.
private struct Listing: Encodable {
  struct CPU: Encodable {
    var name = "cpu"
    var cores = CPUBackend.cores
    var memory = CPUBackend.physicalMemory
    var blas = "OpenBLAS (\(CPUBackend.blasCore))"
  }

  let cpu = CPU()
  /// Why there is no OpenCL at all.
  let loaderProblem = OpenCLLoader.problem
  let opencl = OpenCLDevices.all(probe: true)
  let platforms = OpenCLDevices.platforms()
  let drivers = InstalledDriver.all()

  var lines: [String] {
    var lines = [
      "cpu: \(cpu.blas), float32 arithmetic", "  \(cpu.cores) cores, \(Output.bytes(cpu.memory)) of memory",
    ]
    for device in opencl { lines += describe(device) }
    for platform in platforms {
      if let problem = platform.problem {
        lines.append("platform \(platform.name), \(platform.version): cannot be used: \(problem)")
      }
    }
    for driver in drivers {
      if let problem = driver.problem { lines.append("\(driver.file): cannot be used: \(problem)") }
    }
    if let loaderProblem { lines.append("the OpenCL loader: cannot be used: \(loaderProblem)") }
    if opencl.isEmpty {
      let reason = drivers.isEmpty ? "no OpenCL driver is installed" : "no OpenCL device was found"
      lines.append("\(reason); `langevin doctor` says what to do")
    }
    return lines
  }

  private func describe(_ device: DeviceDescription) -> [String] {
    func yes(_ value: Bool) -> String { value ? "yes" : "no" }
    var lines = [
      "opencl:\(device.index): \(device.name)",
      "  platform \(device.platform), \(device.platformVersion)",
      "  \(device.version), driver \(device.driver), vendor \(device.vendor)",
      "  type \(device.type), \(device.computeUnits) compute units at \(device.clockMHz) MHz, "
        + "work-groups up to \(device.maxWorkGroupSize)",
      "  memory \(Output.bytes(device.globalMemory)), one buffer up to \(Output.bytes(device.maxAllocation)), "
        + "local \(Output.bytes(device.localMemory))",
      "  vectors of \(device.vectorWidth.map(String.init) ?? "?") floats, fp16 \(yes(device.fp16)), fp64 \(yes(device.fp64)), subgroups \(yes(device.subgroups)), "
        + "images \(yes(device.images))",
    ]
    if let kernels = device.kernels {
      lines.append("  \(kernels.family.rawValue) kernels, \(kernels.reason)")
    }
    if let tuning = KeptTuning.of(device) {
      lines.append("  tuned: \(KeptTunings.summary(tuning)) (`langevin tune --list`)")
    }
    lines.append(device.problem.map { "  cannot be used: \($0)" } ?? "  usable")
    return lines
  }
}
