import Foundation

/// What this process holds, as Linux counts it; zero where it does not say.
public enum ProcessMemory {
  /// Bytes that are resident now.
  public static var resident: Int { bytes("VmRSS") }

  /// The most bytes that were resident since the process began, or since `resetPeak`.
  public static var peak: Int { bytes("VmHWM") }

  /// Gives freed memory back to the system and begins the peak anew; false where Linux does not allow it.
  static func resetPeak() -> Bool {
    // Swift's Glibc does not import <malloc.h>.
    if let trim = dlsym(nil, "malloc_trim") {
      _ = unsafeBitCast(trim, to: (@convention(c) (Int) -> Int32).self)(0)
    }
    // proc(5), clear_refs.
    guard let file = FileHandle(forWritingAtPath: "/proc/self/clear_refs") else { return false }
    return (try? file.write(contentsOf: Data("5".utf8))) != nil
  }

  private static func bytes(_ field: String) -> Int {
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return 0 }
    let line = status.split(separator: "\n").first { $0.hasPrefix("\(field):") }
    return (line?.split(separator: " ").compactMap { Int($0) }.first ?? 0) * 1024
  }
}
