import Foundation
import LangevinDoctor

extension OpenCLProvider: ExaminedProvider {
  /// Looks at the loader, the drivers and their devices, and at the caches.
  public func examine(_ prober: Prober) -> Diagnosis {
    OpenCLExamination(prober: prober).diagnosis()
  }

  /// `load LIBRARY`: whether it loads. `list`: which platforms and devices there are. `device NUMBER`: whether
  /// the device compiles and runs a small kernel.
  public func answer(_ question: [String]) -> ProbeAnswer? {
    switch (question.first, question.count) {
    case ("load", 2): return ProbeAnswer(problem: InstalledDriver.loadProblem(of: question[1]))
    case ("list", 1):
      return try? ProbeAnswer(
        problem: OpenCLLoader.problem,
        OpenCLExamination.List(platforms: OpenCLDevices.platforms(), devices: OpenCLDevices.all()))
    case ("device", 2):
      return Int(question[1]).map { ProbeAnswer(problem: OpenCLDevices.problem(index: $0)) }
    default: return nil
    }
  }
}

/// Looks for what is wrong with OpenCL on this machine: the loader, its drivers and their devices, and caches.
/// Commands are those of Debian and Ubuntu.
///
/// Drivers are loaded, listed and probed in processes of their own, so that one that crashes is a finding.
struct OpenCLExamination {
  let prober: Prober
  var environment: [String: String] { prober.environment }

  /// What the question `list` is answered with.
  struct List: Codable {
    /// Every platform that the loader lists.
    var platforms: [PlatformDescription]
    /// Every device of these platforms.
    var devices: [DeviceDescription]
  }

  func ask(_ question: String..., changes: [String: String] = [:]) throws -> ProbeAnswer {
    try prober.ask(["opencl"] + question, changes: changes)
  }

  /// Runs every check. The first run on a machine takes as long as the drivers compile a small kernel.
  func diagnosis() -> Diagnosis {
    let drivers = InstalledDriver.registered(in: environment).map(loaded)
    var findings = [loader(), system(drivers)].compactMap { $0 }
    findings += registered(drivers) + graphics(drivers)
    findings += [poclCache(drivers), programCache()].compactMap { $0 }
    let found = devices(drivers)
    return Diagnosis(findings: findings + found.findings, usableDevices: found.usable)
  }

  // MARK: Loader and system

  private func loader() -> Finding {
    guard let problem = OpenCLLoader.problem else { return .ok("loader", "libOpenCL.so.1 loads") }
    return .problem("loader", problem, Shell.root("apt install ocl-icd-libopencl1"))
  }

  /// PoCL reads the processor's topology there.
  private func system(_ drivers: [InstalledDriver]) -> Finding? {
    let folder = "/sys/devices/system/cpu"
    if FileManager.default.fileExists(atPath: folder) { return .ok("system", "/sys is mounted") }
    let message = "\(folder) is missing"
    let command = Shell.root("mount -t sysfs sysfs /sys")
    return drivers.contains { $0.library.contains("pocl") }
      ? .problem("system", message + ", and PoCL aborts without it", command)
      : .warning("system", message, command)
  }

  // MARK: Devices

  private func devices(_ drivers: [InstalledDriver]) -> (findings: [Finding], usable: Int) {
    let (list, words): (List, String)
    do {
      let answer = try ask("list")
      (list, words) = (try answer.content(List.self), answer.words ?? "")
    } catch {
      return (culprits(drivers, error), 0)
    }
    var findings: [Finding] = []
    for platform in list.platforms {
      guard let problem = platform.problem else { continue }
      findings.append(
        platform.name == "rusticl"
          ? rusticl(words) : .warning("platform \(platform.name)", problem, remedy()))
    }
    var usable = 0
    for device in list.devices {
      let check = "opencl:\(device.index) (\(device.name))"
      if let problem = device.problem {
        findings.append(.problem(check, "cannot be used: \(problem)", nil))
      } else if let problem = probe(device.index) {
        // It names the device itself.
        let message = problem.hasPrefix(check + ": ") ? String(problem.dropFirst(check.count + 2)) : problem
        findings.append(.problem(check, message, remedy(failing: device)))
      } else {
        usable += 1
        findings.append(.ok(check, "compiles and runs a kernel"))
      }
    }
    if list.devices.isEmpty {
      let message = "there is no OpenCL device; pictures are made on the CPU backend"
      let needsDriver = !drivers.isEmpty && !drivers.contains { KnownDriver(library: $0.library) == .pocl }
      findings.append(
        .problem("devices", message, needsDriver ? Shell.root("apt install pocl-opencl-icd") : nil))
    }
    return (findings, usable)
  }

  private func probe(_ index: Int, changes: [String: String] = [:]) -> String? {
    do { return try ask("device", "\(index)", changes: changes).problem } catch {
      return "\(error)"
    }
  }

  /// The loader loads every driver, so that one that crashes takes the others with it. Each is asked alone.
  private func culprits(_ drivers: [InstalledDriver], _ error: any Error) -> [Finding] {
    let findings = drivers.filter { $0.problem == nil }.compactMap { driver -> Finding? in
      guard let message = crash(driver) else { return nil }
      // PoCL aborts where it cannot make its cache.
      let isCache = withScratch { fresh in crash(driver, changes: ["POCL_CACHE_DIR": fresh.path]) == nil }
      return .problem(
        "driver \(driver.file)", "listing its devices: \(message)", isCache ? otherPoclCache : disable(driver)
      )
    }
    return findings.isEmpty ? [.problem("devices", "listing them: \(error)", nil)] : findings
  }

  /// What goes wrong when the driver is the only one.
  private func crash(_ driver: InstalledDriver, changes: [String: String] = [:]) -> String? {
    withScratch { folder in
      do {
        try Data((driver.library + "\n").utf8).write(
          to: folder.appendingPathComponent("driver.icd"))
        _ = try ask("list", changes: changes.merging(["OCL_ICD_VENDORS": folder.path]) { $1 })
        return nil
      } catch { return "\(error)" }
    }
  }

  /// A cache at fault is told from a broken driver by a run with a fresh one.
  private func remedy(failing device: DeviceDescription) -> String? {
    let driver = KnownDriver(platform: device.platform)
    let pocl = driver == .pocl ? poclCacheFolder : nil
    for (variable, folder) in [
      ("POCL_CACHE_DIR", pocl), ("XDG_CACHE_HOME", OpenCLBackend.programCacheFolder?.path),
    ] {
      guard let folder else { continue }
      let isCured = withScratch { fresh in probe(device.index, changes: [variable: fresh.path]) == nil }
      guard isCured else { continue }
      guard FileManager.default.fileExists(atPath: folder) else { return "unset \(variable)" }
      return Shell.privileged("rm -r \(folder)", on: folder)
    }
    return driver.map { Shell.root("apt install --reinstall \($0.package)") }
  }

  /// For a platform without a device.
  private func remedy() -> String? {
    ["POCL_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"]
      .first { environment[$0] != nil }.map { "unset \($0)" }
  }

  /// A folder that is gone afterwards.
  private func withScratch<R>(_ body: (URL) -> R) -> R {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-doctor-\(UUID().uuidString)")
    try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return body(folder)
  }
}
