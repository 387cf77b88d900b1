import COpenCL
import Foundation
import LangevinTensor

/// Which kernels a driver has compiled and run, remembered on disk: the others are compiled in processes of their
/// own first, where a driver that crashes does no harm.
///
/// The list holds for one driver, for one version of the sources, and for the driver's own cache as it was.
public struct ReadyKernels: Sendable {
  /// Nil keeps nothing.
  private let url: URL?
  /// Of the driver's own cache; nil where it keeps none that is known.
  private let driverCache: URL?
  /// What a variant's name on disk is made of, besides the variant.
  private let context: String

  init(_ device: DeviceDescription, family: KernelFamily, sources: String, folder: URL?) {
    let driver = [device.platform, device.platformVersion, device.name, device.driver].joined(separator: "\n")
    context = [driver, family.rawValue, sources].joined(separator: "\n")
    url = folder?.appendingPathComponent("ready-\(FNV.name(driver)).txt")
    driverCache = DriverCache.folder(platform: device.platform)
  }

  private static let magic = "langevin ready kernels 1"

  private func name(_ variant: KernelVariant) -> String {
    let local = variant.local.map { "\($0)" } ?? "any"
    return FNV.name(
      "\(context)\n\(variant.program)\n\(variant.kernel)\n\(local)\n\(variant.isLargeGrid)")
  }

  private var state: String { driverCache.map { DriverCache.fingerprint($0) } ?? "none" }

  private func names() -> Set<String> {
    guard let url, let text = try? String(contentsOf: url, encoding: .utf8) else { return [] }
    let lines = text.split(separator: "\n").map(String.init)
    guard lines.count >= 2, lines[0] == ReadyKernels.magic, lines[1] == state else { return [] }
    return Set(lines.dropFirst(2))
  }

  /// Those of the jobs' kernels that are not on the list.
  public func missing(of jobs: [CompileJob]) -> [CompileJob] {
    let known = names()
    return jobs.compactMap { job in
      var rest = CompileJob(program: job.program)
      for part in job.parts {
        for variant in part.variants where !known.contains(name(variant)) { rest.add(part.call, variant) }
      }
      return rest.variantCount > 0 ? rest : nil
    }
  }

  /// Adds the jobs' kernels to those on the list. One that cannot be written costs the next start some time.
  public func add(_ jobs: [CompileJob]) {
    guard let url else { return }
    let added = jobs.flatMap { $0.parts.flatMap { $0.variants.map(name) } }
    let lines = [ReadyKernels.magic, state] + names().union(added).sorted()
    try? FileManager.default.createDirectory(
      at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try? Data((lines.joined(separator: "\n") + "\n").utf8).write(to: url, options: .atomic)
  }
}

/// The cache that a driver keeps by itself.
public enum DriverCache {
  /// The name of PoCL's platform.
  static let pocl = "Portable Computing Language"

  /// Nil where no folder is known to hold this platform's kernels.
  public static func folder(
    platform: String, environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> URL? {
    platform == pocl ? poclFolder(environment).map { URL(fileURLWithPath: $0) } : nil
  }

  /// Where PoCL keeps its kernels; nil where no variable says.
  public static func poclFolder(_ environment: [String: String]) -> String? {
    if let folder = environment["POCL_CACHE_DIR"], !folder.isEmpty { return folder }
    if let folder = environment["XDG_CACHE_HOME"], !folder.isEmpty { return folder + "/pocl/kcache" }
    return environment["HOME"].map { $0 + "/.cache/pocl/kcache" }
  }

  /// The same as long as no compiled file in the folder has come, gone or changed.
  static func fingerprint(_ folder: URL) -> String {
    var sum: UInt64 = 0
    var path = [strdup(folder.path), nil]
    defer { free(path[0]) }
    guard let walk = fts_open(&path, FTS_PHYSICAL | FTS_NOCHDIR, nil) else { return "none" }
    defer { fts_close(walk) }
    while let entry = fts_read(walk) {
      guard Int32(entry.pointee.fts_info) == FTS_F, let status = entry.pointee.fts_statp?.pointee else {
        continue
      }
      let name = String(cString: entry.pointee.fts_path)
      // Other files hold times of access.
      guard name.hasSuffix(".so") || name.hasSuffix(".bc") else { continue }
      let facts = "\(name) \(status.st_size) \(status.st_mtim.tv_sec) \(status.st_mtim.tv_nsec)"
      // In any order.
      sum &+= FNV.hash(facts.utf8)
    }
    return String(sum, radix: 16)
  }
}

extension OpenCLBackend {
  /// Which of this device's kernels are known to be compiled.
  public var readyKernels: ReadyKernels {
    ReadyKernels(
      description, family: family, sources: Programs.hash(text), folder: OpenCLBackend.programCacheFolder)
  }
}
