import Foundation
import LangevinDoctor

extension OpenCLExamination {
  /// Where PoCL keeps its kernels; nil where no variable says.
  var poclCacheFolder: String? { DriverCache.poclFolder(environment) }

  /// Gives PoCL a cache that it can write.
  var otherPoclCache: String { "export POCL_CACHE_DIR=/tmp/pocl-\(Shell.userName)" }

  /// PoCL cannot build a kernel without its cache.
  func poclCache(_ drivers: [InstalledDriver]) -> Finding? {
    guard drivers.contains(where: { KnownDriver(library: $0.library) == .pocl }) else { return nil }
    guard let folder = poclCacheFolder else {
      return .warning("PoCL's cache", "HOME is not set", otherPoclCache)
    }
    guard let obstacle = obstacle(folder) else { return .ok("PoCL's cache", "\(folder) can be written") }
    return .problem("PoCL's cache", obstacle.message, obstacle.command ?? otherPoclCache)
  }

  /// Langevin's own cache of compiled programs; without it every start compiles anew.
  func programCache() -> Finding? {
    let instead = "export XDG_CACHE_HOME=/tmp/cache-\(Shell.userName)"
    guard let folder = OpenCLBackend.programCacheFolder?.path else {
      return .warning("program cache", "neither HOME nor XDG_CACHE_HOME is set", instead)
    }
    guard let obstacle = obstacle(folder) else { return .ok("program cache", "\(folder) can be written") }
    return .warning("program cache", obstacle.message, obstacle.command ?? instead)
  }

  /// Why a folder cannot be used or made, with the command that mends it where its path is at fault; nil where
  /// it can.
  private func obstacle(_ folder: String) -> (message: String, command: String?)? {
    var url = URL(fileURLWithPath: folder).standardizedFileURL
    // A folder that is not there yet is as good as the nearest one that is.
    while url.path != "/", !FileManager.default.fileExists(atPath: url.path) {
      url.deleteLastPathComponent()
    }
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
    let isCache = url.path == URL(fileURLWithPath: folder).standardizedFileURL.path
    let inside = isCache ? entries.map { url.path + "/" + $0 } : []
    for path in [url.path] + inside {
      var status = stat()
      guard stat(path, &status) == 0 else { continue }
      let isFolder = status.st_mode & S_IFMT == S_IFDIR
      if path == url.path, !isFolder {
        return ("\(path) is a file, not a folder", Shell.privileged("rm \(path)", on: path))
      }
      guard access(path, isFolder ? R_OK | W_OK | X_OK : R_OK) != 0 else { continue }
      let reason = errno
      let message = "\(path) cannot be read and written: \(String(cString: strerror(reason)))"
      // Nobody may write where the disk is read-only, and another user's folder is changed only if it is a cache.
      guard reason == EACCES, isCache else { return (message, nil) }
      return status.st_uid == geteuid()
        ? (message, "chmod -R u+rwX \(folder)")
        : (message, Shell.root("chown -R \(Shell.userName) \(folder)"))
    }
    // Root may do everything, except where a file system cannot.
    let attempt = url.appendingPathComponent(".langevin-\(UUID().uuidString)").path
    guard mkdir(attempt, 0o700) == 0 else {
      return ("\(url.path) cannot be written: \(String(cString: strerror(errno)))", nil)
    }
    rmdir(attempt)
    return nil
  }
}
