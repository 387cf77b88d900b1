import Foundation
import LangevinTensor

/// How fast devices were on a small step (`SelfTest`), kept on disk: a file for each device, driver and version of the
/// kernels. What failed is not kept, and is tried again.
public struct KeptSpeeds: Sendable {
  /// Nil keeps nothing.
  private let folder: URL?

  /// In a folder; by default under the user's cache.
  public init(folder: URL? = CacheFolder.url("speeds")) { self.folder = folder }

  private struct File: Codable {
    /// For what it holds.
    var key: String
    /// For people.
    var device: String
    var seconds: Double
  }

  private static func key(_ device: ListedDevice) -> String {
    "small step 1\n" + (device.measuredAs ?? "\(device.provider)\n\(device.title ?? "")")
  }

  private func url(_ device: ListedDevice) -> URL? {
    folder?.appendingPathComponent("\(device.provider)-\(FNV.name(Self.key(device))).json")
  }

  /// Nil where it was not measured with this driver and these kernels.
  public func seconds(of device: ListedDevice) -> Double? {
    guard let url = url(device), let data = try? Data(contentsOf: url),
      let file = try? JSONDecoder().decode(File.self, from: data), file.key == Self.key(device),
      file.seconds.isFinite, file.seconds > 0
    else { return nil }
    return file.seconds
  }

  /// Keeps a figure for later processes. Throws `DeviceChoiceError.notKept`.
  public func keep(_ seconds: Double, of device: ListedDevice) throws {
    guard let folder, let url = url(device) else {
      throw DeviceChoiceError.notKept(path: "$XDG_CACHE_HOME", reason: "neither it nor $HOME names a folder")
    }
    let file = File(
      key: Self.key(device), device: device.name + (device.title.map { " (\($0))" } ?? ""), seconds: seconds)
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try JSONEncoder().encode(file).write(to: url, options: .atomic)
    } catch {
      throw DeviceChoiceError.notKept(path: url.path, reason: error.localizedDescription)
    }
  }

  /// The device is measured anew when it is next asked for.
  public func forget(_ device: ListedDevice) {
    if let url = url(device) { try? FileManager.default.removeItem(at: url) }
  }
}
