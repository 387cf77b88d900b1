import Foundation
import LangevinModels
import LangevinNN

/// The weights of an upscaler (Real-ESRGAN), of which only the header was read.
public struct UpscalerFile: Sendable {
  /// The safetensors file itself.
  public let url: URL
  /// The network that the tensors' names and shapes tell.
  public let config: UpscalerConfig
  let weights: any WeightSource

  /// Opens a safetensors file, or the only one of a folder.
  ///
  /// Throws `CheckpointError`, and `ModelError.unknownArchitecture` for another network's weights.
  public init(_ url: URL) throws {
    self.url = try Self.file(url)
    weights = try ESRGANNames.source(SafetensorsFile(url: self.url))
    config = try UpscalerConfig(weights)
  }

  /// The file's name without its ending.
  public var name: String { url.deletingPathExtension().lastPathComponent }

  private static func file(_ url: URL) throws -> URL {
    var isFolder = ObjCBool(false)
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue else {
      return url
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
      .filter { $0.hasSuffix(".safetensors") }
    guard let name = names.first else {
      throw CheckpointError.missingFile(path: url.appendingPathComponent("*.safetensors").path)
    }
    guard names.count == 1 else {
      throw CheckpointError.unsupported(
        path: url.path, found: "a folder of \(names.count) .safetensors files", supported: names)
    }
    return url.appendingPathComponent(name)
  }
}
