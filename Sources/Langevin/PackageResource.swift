import Foundation

/// Files of the package's `Resources` folder, which SwiftPM lays beside the executable.
enum PackageResource {
  /// Where a file or folder lies. SwiftPM's own `Bundle.module` ends the process where there is none.
  ///
  /// Throws `CheckpointError.missingFile` where the executable was moved without its resources.
  static func url(_ name: String) throws -> URL {
    let path = "langevin_Langevin.resources/Resources/\(name)"
    let executable = Bundle.main.executableURL?.resolvingSymlinksInPath().deletingLastPathComponent()
    let candidates = [executable, Bundle.main.bundleURL].compactMap { $0?.appendingPathComponent(path) }
    for url in candidates where FileManager.default.fileExists(atPath: url.path) { return url }
    throw CheckpointError.missingFile(path: candidates.first?.path ?? path)
  }
}
