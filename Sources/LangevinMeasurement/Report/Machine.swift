import Foundation
import Langevin
import LangevinCPU

/// What measured: processor, system and versions.
public struct Machine: Sendable, Codable, Hashable {
  /// The processor's own name.
  public var processor: String
  /// Cores that this process may run on.
  public var cores: Int
  /// Bytes of physical memory.
  public var memory: Int
  /// The distribution and the kernel's version.
  public var system: String
  /// The compiler that built the tool.
  public var swift: String
  /// The processor whose kernels OpenBLAS runs, or why it does not load.
  public var blas: String

  /// What this machine is.
  public static var current: Machine {
    Machine(
      processor: field("model name", of: "/proc/cpuinfo", separator: ":") ?? "unknown",
      cores: CPUBackend.cores, memory: CPUBackend.physicalMemory,
      system: [
        field("PRETTY_NAME", of: "/etc/os-release", separator: "="),
        (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8))
          .map { "Linux " + $0.trimmingCharacters(in: .whitespacesAndNewlines) },
      ].compactMap { $0 }.joined(separator: ", "),
      swift: compiler, blas: CPUBackend.blasCore)
  }

  private static func field(_ name: String, of path: String, separator: Character) -> String? {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
    let value = line?.split(separator: separator, maxSplits: 1).last
    return value.map { $0.trimmingCharacters(in: CharacterSet(charactersIn: " \t\"")) }
  }

  private static var compiler: String {
    #if compiler(>=6.4)
      "6.4 or newer"
    #elseif compiler(>=6.3)
      "6.3"
    #elseif compiler(>=6.2)
      "6.2"
    #else
      "6.1 or older"
    #endif
  }
}
