import Foundation
import Langevin
import LangevinCPU
import LangevinDoctor

/// Looks for what is wrong on this machine: what every provider finds, OpenBLAS and memory.
public struct Examination: Sendable {
  private let prober: Prober

  /// `executable` is the tool itself, which is run as `langevin probe …`.
  public init(executable: URL, environment: [String: String] = ProcessInfo.processInfo.environment) {
    prober = Prober(executable: executable, environment: environment)
  }

  /// Runs every check. The first run on a machine takes as long as the drivers compile a small kernel.
  public func diagnosis() -> Diagnosis {
    let found = BackendRegistry.providers.compactMap { $0 as? any ExaminedProvider }.map {
      $0.examine(prober)
    }
    return Diagnosis(
      findings: found.flatMap(\.findings) + [openBLAS(), memory()],
      usableDevices: found.reduce(0) { $0 + $1.usableDevices })
  }

  private func openBLAS() -> Finding {
    guard let problem = CPUBackend.blasProblem else {
      return .ok("OpenBLAS", "loads, and runs its kernels for \(CPUBackend.blasCore)")
    }
    let command =
      prober.environment["OPENBLAS_CORETYPE"] == nil
      ? Shell.root("apt install libopenblas0-pthread") : "unset OPENBLAS_CORETYPE"
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
