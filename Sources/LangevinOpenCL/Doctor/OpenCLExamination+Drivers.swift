import Foundation
import LangevinDoctor

/// Drivers that packages exist for.
enum KnownDriver: CaseIterable {
  case pocl, nvidia, intelGraphics, mesa, amd, oclgrind

  /// Debian's and Ubuntu's name.
  var package: String {
    switch self {
    case .pocl: "pocl-opencl-icd"
    case .nvidia: "nvidia-opencl-icd"
    case .intelGraphics: "intel-opencl-icd"
    case .mesa: "mesa-opencl-icd"
    case .amd: "rocm-opencl-icd"
    case .oclgrind: "oclgrind"
    }
  }

  private var libraries: [String] {
    switch self {
    case .pocl: ["libpocl"]
    case .nvidia: ["libnvidia-opencl"]
    case .intelGraphics: ["libigdrcl"]
    case .mesa: ["libMesaOpenCL", "libRusticlOpenCL"]
    case .amd: ["libamdocl"]
    case .oclgrind: ["liboclgrind"]
    }
  }

  private var platforms: [String] {
    switch self {
    case .pocl: ["Portable Computing Language"]
    case .nvidia: ["NVIDIA CUDA"]
    case .intelGraphics: ["Intel(R) OpenCL Graphics", "Intel(R) OpenCL HD Graphics"]
    case .mesa: ["Clover", "rusticl"]
    case .amd: ["AMD Accelerated Parallel Processing"]
    case .oclgrind: ["Oclgrind"]
    }
  }

  /// Nil where the library is nobody's.
  init?(library: String) {
    let name = library.split(separator: "/").last ?? ""
    guard let driver = KnownDriver.allCases.first(where: { $0.libraries.contains { name.hasPrefix($0) } })
    else {
      return nil
    }
    self = driver
  }

  init?(platform: String) {
    guard let driver = KnownDriver.allCases.first(where: { $0.platforms.contains(platform) }) else {
      return nil
    }
    self = driver
  }
}

extension OpenCLExamination {
  /// Loads the driver's library in a process of its own.
  func loaded(_ driver: InstalledDriver) -> InstalledDriver {
    guard driver.problem == nil else { return driver }
    var driver = driver
    do { driver.problem = try ask("load", driver.library).problem } catch {
      driver.problem = "\(error)"
    }
    return driver
  }

  func registered(_ drivers: [InstalledDriver]) -> [Finding] {
    guard drivers.isEmpty else { return drivers.map(finding) }
    let message =
      "no OpenCL driver is registered: no .icd file in \(InstalledDriver.vendors(in: environment))"
    let variable = ["OCL_ICD_VENDORS", "OPENCL_VENDOR_PATH"].first { environment[$0]?.isEmpty == false }
    return [
      .problem(
        "drivers", message, variable.map { "unset \($0)" } ?? Shell.root("apt install pocl-opencl-icd"))
    ]
  }

  private func finding(_ driver: InstalledDriver) -> Finding {
    let check = "driver \(driver.file)"
    guard let problem = driver.problem else { return .ok(check, "\(driver.library) loads") }
    let known = KnownDriver(library: driver.library).map {
      Shell.root("apt install --reinstall \($0.package)")
    }
    // "libtbb.so.12: cannot open shared object file: No such file or directory"
    let colon = problem.range(of: ": cannot open shared object file")
    guard let missing = colon.map({ String(problem[..<$0.lowerBound]) }) else {
      return .problem(check, problem, known ?? disable(driver))
    }
    guard missing != driver.library else {
      return .problem(check, problem, known ?? Shell.privileged("rm \(driver.file)", on: driver.file))
    }
    let message = "\(driver.library) needs \(missing), which is not found"
    let folder = URL(fileURLWithPath: driver.library).resolvingSymlinksInPath().deletingLastPathComponent()
      .path
    if FileManager.default.fileExists(atPath: folder + "/" + missing) {
      return .problem(check, message + "; it lies beside it", "export LD_LIBRARY_PATH=\(folder)")
    }
    return .problem(check, message, known ?? disable(driver))
  }

  /// Takes a driver out of the loader's sight.
  func disable(_ driver: InstalledDriver) -> String {
    Shell.privileged("mv \(driver.file) \(driver.file).off", on: driver.file)
  }

  // MARK: Graphics cards

  /// Cards that no registered driver serves, and cards that this user may not use.
  func graphics(_ drivers: [InstalledDriver]) -> [Finding] {
    let served = Set(drivers.compactMap { KnownDriver(library: $0.library) })
    return nvidia(served) + renderNodes(served)
  }

  private func nvidia(_ served: Set<KnownDriver>) -> [Finding] {
    guard !served.contains(.nvidia) else { return [] }
    let library = "libnvidia-opencl.so.1"
    let hasLibrary = (try? ask("load", library))?.problem.map { _ in false } ?? true
    let hasKernelDriver = FileManager.default.fileExists(atPath: "/proc/driver/nvidia/version")
    if hasLibrary {
      let command = Shell.root("sh -c 'echo \(library) > /etc/OpenCL/vendors/nvidia.icd'")
      return [.problem("NVIDIA", "\(library) is installed, but no .icd file names it", command)]
    }
    guard hasKernelDriver else { return [] }
    let message = "the kernel's driver is there, but not \(library)"
    return [.problem("NVIDIA", message, Shell.root("apt install nvidia-opencl-icd"))]
  }

  private func renderNodes(_ served: Set<KnownDriver>) -> [Finding] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/dev/dri")) ?? []
    return names.filter { $0.hasPrefix("renderD") }.sorted().flatMap { name -> [Finding] in
      let node = "/dev/dri/\(name)"
      var findings: [Finding] = []
      if access(node, R_OK | W_OK) == 0 {
        findings.append(.ok(node, "may be opened"))
      } else {
        let reason = String(cString: strerror(errno))
        let group = (try? FileManager.default.attributesOfItem(atPath: node))?[.groupOwnerAccountName]
        let command = Shell.root("usermod -aG \(group as? String ?? "render") \(Shell.userName)")
        findings.append(.problem(node, "may not be opened: \(reason); log in again after this", command))
      }
      let file = "/sys/class/drm/\(name)/device/vendor"
      let vendor = (try? String(contentsOfFile: file, encoding: .utf8))?.trimmingCharacters(in: .newlines)
      let wanted: [KnownDriver] =
        switch vendor {
        case "0x8086": [.intelGraphics, .mesa]
        case "0x1002": [.mesa, .amd]
        default: []
        }
      if let first = wanted.first, served.isDisjoint(with: wanted) {
        let command = Shell.root("apt install \(first.package)")
        findings.append(.problem(node, "no registered driver is for this card", command))
      }
      return findings
    }
  }
}
