import COpenCL
import Foundation

/// A driver that is registered with the OpenCL loader by an .icd file.
public struct InstalledDriver: Sendable, Codable, Hashable {
  /// The path of the .icd file.
  public let file: String
  /// What the file names: a path or a soname; empty where it names nothing or cannot be read.
  public let library: String
  /// Why the driver cannot be used; nil where nothing is known against it.
  public var problem: String?

  /// The registered drivers in the order of their files' names, none of them loaded.
  public static func registered(
    in environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> [InstalledDriver] {
    files(environment).map { file in
      guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
        return InstalledDriver(file: file, library: "", problem: "the file cannot be read")
      }
      let first = text.split(whereSeparator: \.isNewline).first ?? ""
      let library = first.trimmingCharacters(in: .whitespaces)
      return InstalledDriver(
        file: file, library: library, problem: library.isEmpty ? "the file names no library" : nil)
    }
  }

  /// The registered drivers, each loaded to see whether it does.
  public static func all() -> [InstalledDriver] {
    registered().map { driver in
      var driver = driver
      driver.problem = driver.problem ?? loadProblem(of: driver.library)
      return driver
    }
  }

  /// Where the loader looks: `OCL_ICD_VENDORS`, else `OPENCL_VENDOR_PATH`, else `/etc/OpenCL/vendors`.
  public static func vendors(
    in environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> String {
    ["OCL_ICD_VENDORS", "OPENCL_VENDOR_PATH"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty }
      ?? "/etc/OpenCL/vendors"
  }

  /// The dynamic linker's words where a library does not load, which name what is missing; nil where it does.
  public static func loadProblem(of library: String) -> String? {
    // As the loader does it. What is loaded stays: some drivers do not survive their own unloading.
    guard dlopen(library, RTLD_LAZY | RTLD_LOCAL) == nil else { return nil }
    return dlerror().map { String(cString: $0) } ?? "the library does not load"
  }

  /// `OCL_ICD_VENDORS` may also be one .icd file.
  private static func files(_ environment: [String: String]) -> [String] {
    let path = vendors(in: environment)
    if path.hasSuffix(".icd") { return [path] }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.filter { $0.hasSuffix(".icd") }.sorted().map {
      URL(fileURLWithPath: path).appendingPathComponent($0).path
    }
  }
}

/// The OpenCL loader, `libOpenCL.so.1`.
public enum OpenCLLoader {
  /// Why it cannot be used, in the dynamic linker's words; nil where it can.
  public static var problem: String? { opencl_loader_problem().map { String(cString: $0) } }
}

/// What an OpenCL platform, which is a driver that was loaded, says of itself.
public struct PlatformDescription: Sendable, Codable, Hashable {
  /// The platform's name.
  public let name: String
  /// The platform's vendor.
  public let vendor: String
  /// The version of OpenCL, and what the platform adds to it.
  public let version: String
  /// How many devices it has.
  public let devices: Int
  /// Why it has none; nil where it has some.
  public let problem: String?
}
