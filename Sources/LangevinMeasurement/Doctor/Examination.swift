import Foundation
import Langevin

/// Looks for what is wrong on this machine: the OpenCL loader, its drivers and their devices, caches, OpenBLAS
/// and memory. Commands are those of Debian and Ubuntu.
///
/// Drivers are loaded, listed and probed in processes of their own, so that one that crashes is a finding.
public struct Examination: Sendable {
  let environment: [String: String]
  let prober: Prober

  /// `executable` is the tool itself, which is run as `langevin probe …`.
  public init(executable: URL, environment: [String: String] = ProcessInfo.processInfo.environment) {
    self.environment = environment
    prober = Prober(executable: executable, environment: environment)
  }

  /// Runs every check. The first run on a machine takes as long as the drivers compile a small kernel.
  public func diagnosis() -> Diagnosis {
    let drivers = InstalledDriver.registered(in: environment).map(loaded)
    var findings = [loader(), system(drivers)].compactMap { $0 }
    findings += registered(drivers) + graphics(drivers)
    findings += [poclCache(drivers), programCache()].compactMap { $0 }
    let found = devices(drivers)
    findings += found.findings + [openBLAS(), memory()]
    return Diagnosis(findings: findings, usableDevices: found.usable)
  }

  // MARK: Loader and system

  private func loader() -> Finding {
    guard let problem = OpenCLLoader.problem else { return .ok("loader", "libOpenCL.so.1 loads") }
    return .problem("loader", problem, root("apt install ocl-icd-libopencl1"))
  }

  /// PoCL reads the processor's topology there.
  private func system(_ drivers: [InstalledDriver]) -> Finding? {
    let folder = "/sys/devices/system/cpu"
    if FileManager.default.fileExists(atPath: folder) { return .ok("system", "/sys is mounted") }
    let message = "\(folder) is missing"
    let command = root("mount -t sysfs sysfs /sys")
    return drivers.contains { $0.library.contains("pocl") }
      ? .problem("system", message + ", and PoCL aborts without it", command)
      : .warning("system", message, command)
  }

  // MARK: Devices

  private func devices(_ drivers: [InstalledDriver]) -> (findings: [Finding], usable: Int) {
    let list: ProbeAnswer
    do {
      list = try prober.ask(.list)
    } catch {
      return (culprits(drivers, error), 0)
    }
    var findings: [Finding] = []
    for platform in list.platforms {
      guard let problem = platform.problem else { continue }
      findings.append(
        platform.name == "rusticl"
          ? rusticl(list.words ?? "") : .warning("platform \(platform.name)", problem, remedy()))
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
      findings.append(.problem("devices", message, needsDriver ? root("apt install pocl-opencl-icd") : nil))
    }
    return (findings, usable)
  }

  private func probe(_ index: Int, changes: [String: String] = [:]) -> String? {
    do { return try prober.ask(.device(index), changes: changes).problem } catch { return "\(error)" }
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
        try Data((driver.library + "\n").utf8).write(to: folder.appendingPathComponent("driver.icd"))
        _ = try prober.ask(.list, changes: changes.merging(["OCL_ICD_VENDORS": folder.path]) { $1 })
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
      return privileged("rm -r \(folder)", on: folder)
    }
    return driver.map { root("apt install --reinstall \($0.package)") }
  }

  /// For a platform without a device.
  private func remedy() -> String? {
    ["POCL_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"]
      .first { environment[$0] != nil }.map { "unset \($0)" }
  }

  // MARK: The CPU backend and memory

  private func openBLAS() -> Finding {
    guard let problem = CPUBackend.blasProblem else {
      return .ok("OpenBLAS", "loads, and runs its kernels for \(CPUBackend.blasCore)")
    }
    let command =
      environment["OPENBLAS_CORETYPE"] == nil
      ? root("apt install libopenblas0-pthread") : "unset OPENBLAS_CORETYPE"
    return .problem("OpenBLAS", problem, command)
  }

  private func memory() -> Finding {
    let available = FreeMemory.bytes
    let text = String(format: "%.1f GiB are free", Double(available) / Double(1 << 30))
    guard available < 6 << 30 else { return .ok("memory", text) }
    return .warning(
      "memory", text + "; Stable Diffusion 1.5 takes about 5 GiB in float32, and half in float16",
      "langevin generate PROMPT --precision f16")
  }

  // MARK: Commands

  /// The command with sudo before it, unless the user is root.
  func root(_ command: String) -> String { geteuid() == 0 ? command : "sudo \(command)" }

  /// As root where the folder that a file lies in cannot be written otherwise.
  func privileged(_ command: String, on file: String) -> String {
    let folder = URL(fileURLWithPath: file).deletingLastPathComponent().path
    return access(folder, W_OK) == 0 ? command : root(command)
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

/// The machine's memory, and this process's share of it.
enum FreeMemory {
  /// Bytes that can be had without swapping, within the limit of the control group.
  static var bytes: Int {
    let lines = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8))?.split(separator: "\n") ?? []
    let line = lines.first { $0.hasPrefix("MemAvailable:") }
    let free = line?.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 << 10 }
    guard let limit = group("max"), let used = group("current") else { return free ?? .max }
    return min(free ?? .max, max(limit - used, 0))
  }

  private static func group(_ name: String) -> Int? {
    let text = try? String(contentsOfFile: "/sys/fs/cgroup/memory.\(name)", encoding: .utf8)
    return text.flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }
}
