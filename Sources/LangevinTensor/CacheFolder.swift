import Foundation

/// Where what can be made again is kept.
public enum CacheFolder {
  /// `$XDG_CACHE_HOME/langevin/<name>`, by default under `~/.cache`; nil without a home.
  public static func url(_ name: String) -> URL? {
    let environment = ProcessInfo.processInfo.environment
    let base: URL? =
      if let path = environment["XDG_CACHE_HOME"], path.hasPrefix("/") {
        URL(fileURLWithPath: path)
      } else if let home = environment["HOME"] {
        URL(fileURLWithPath: home).appendingPathComponent(".cache")
      } else { nil }
    return base?.appendingPathComponent("langevin/\(name)")
  }
}
