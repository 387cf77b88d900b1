import ArgumentParser
import Foundation
import Langevin

/// `langevin devices`.
struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists every device, what was probed of it, and why one cannot be used.")

  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    let listing = Listing()
    if json { try Output.json(listing) } else { for line in listing.lines { Output.result(line) } }
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
  let opencl = OpenCLDevices.all(probe: true)
  let drivers = InstalledDriver.all()

  var lines: [String] {
    var lines = [
      "cpu: \(cpu.blas), float32 arithmetic", "  \(cpu.cores) cores, \(Output.bytes(cpu.memory)) of memory",
    ]
    for device in opencl { lines += describe(device) }
    for driver in drivers {
      if let problem = driver.problem { lines.append("\(driver.file): cannot be used: \(problem)") }
    }
    if opencl.isEmpty {
      lines.append(
        drivers.isEmpty
          ? "no OpenCL driver is installed; for the processor: apt install pocl-opencl-icd"
          : "no OpenCL device was found; for the processor: apt install pocl-opencl-icd")
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
      "  fp16 \(yes(device.fp16)), fp64 \(yes(device.fp64)), subgroups \(yes(device.subgroups)), "
        + "images \(yes(device.images))",
    ]
    lines.append(device.problem.map { "  cannot be used: \($0)" } ?? "  usable")
    return lines
  }
}

/// A driver that is registered with the OpenCL loader.
private struct InstalledDriver: Encodable {
  let file: String
  let library: String
  /// Why it does not load.
  let problem: String?

  /// The .icd files of the loader's folder, or of `OCL_ICD_VENDORS`.
  static func all() -> [InstalledDriver] {
    let path = ProcessInfo.processInfo.environment["OCL_ICD_VENDORS"] ?? "/etc/OpenCL/vendors"
    let folder = URL(fileURLWithPath: path)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.filter { $0.hasSuffix(".icd") }.sorted().map { name in
      let file = folder.appendingPathComponent(name)
      let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
      let library = text.split(separator: "\n").first.map { $0.trimmingCharacters(in: .whitespaces) } ?? ""
      return InstalledDriver(file: file.path, library: library, problem: problem(library))
    }
  }

  private static func problem(_ library: String) -> String? {
    guard !library.isEmpty else { return "the file names no library" }
    guard let handle = dlopen(library, RTLD_NOW | RTLD_LOCAL) else {
      return dlerror().map { String(cString: $0) } ?? "the library does not load"
    }
    dlclose(handle)
    return nil
  }
}
