import Foundation
import LangevinDoctor

/// Mesa's rusticl is installed with every card's driver switched off, and needs libclc beside it.
extension OpenCLExamination {
  /// Why the platform has no device. `words` are what the driver wrote while devices were listed.
  func rusticl(_ words: String) -> Finding {
    let check = "platform rusticl"
    let drivers = rusticlDrivers()
    if let line = words.split(separator: "\n").first(where: { $0.lowercased().contains("libclc") }) {
      return .warning(
        check, "it has no device: \(line)", Shell.root("apt install --reinstall \(libclcPackage)"))
    }
    guard let enabled = environment["RUSTICL_ENABLE"], !enabled.isEmpty else {
      let message = "it has no device: Mesa offers only drivers that RUSTICL_ENABLE names, and it is not set"
      return .warning(check, message, "export RUSTICL_ENABLE=\(drivers)")
    }
    let message = "it has no device: none of the drivers in RUSTICL_ENABLE=\(enabled) finds one"
    return .warning(check, message, enabled == drivers ? nil : "export RUSTICL_ENABLE=\(drivers)")
  }

  /// Mesa's drivers of this machine's cards; without any, the one that runs on the processor.
  private func rusticlDrivers() -> String {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/dev/dri")) ?? []
    let drivers = names.filter { $0.hasPrefix("renderD") }.sorted().compactMap { name -> String? in
      let file = "/sys/class/drm/\(name)/device/vendor"
      let vendor = (try? String(contentsOfFile: file, encoding: .utf8))?.trimmingCharacters(in: .newlines)
      return switch vendor {
      case "0x8086": "iris"
      case "0x1002": "radeonsi"
      case "0x10de": "nouveau"
      // Apple's card is on no PCI bus.
      case nil: "asahi"
      default: nil
      }
    }
    return drivers.isEmpty ? "llvmpipe" : drivers.joined(separator: ",")
  }

  /// Its name has the version of LLVM that Mesa was built with.
  private var libclcPackage: String {
    let outcome = try? ChildProcess.run(
      URL(fileURLWithPath: "/usr/bin/dpkg-query"), ["-W", "-f", "${Depends}", "mesa-opencl-icd"],
      environment: environment, patience: 10)
    let words = outcome?.output.split { $0 == " " || $0 == "," } ?? []
    return words.first { $0.hasPrefix("libclc-") }.map(String.init) ?? "libclc-15"
  }
}
