import Foundation
import LangevinTensor
import Synchronization

/// A diffusers folder with GGUF files in the place of its networks' weights; the autoencoder and what is no network are
/// copied. Files beside the components' folders are left out.
public struct FolderConversion {
  private let writer: ModelFolderWriter
  private let summary = Shared()
  private final class Shared: Sendable { let value = Mutex(GGUFConversion.Summary()) }

  /// Opens the networks' files, of one part or several, and decides what becomes of each tensor, as `GGUFConversion`
  /// does. `check` is called before each tensor is written, and what it throws ends the writing.
  ///
  /// Throws `CheckpointError`: what opening the model throws, and `unsupported` for what GGUF cannot hold.
  public init(
    _ folder: URL, encoding: BlockEncoding, convolutions: Bool = false,
    check: @escaping @Sendable () throws -> Void = {}
  ) throws {
    _ = try Checkpoint.open(folder)
    var writer = try ModelFolderWriter(copying: folder)
    for (name, className) in writer.classes {
      let place = folder.appendingPathComponent(name)
      func has(_ file: String) -> Bool {
        FileManager.default.fileExists(atPath: place.appendingPathComponent(file).path)
      }
      guard has("") else {
        writer.omit(name)
        continue
      }
      guard has("config.json"), !Self.staysDense(className ?? "") else { continue }
      let config = try ModelFolder.configuration(place, className: className).config
      guard let source = try ModelFolder.weights(in: place) as? any TensorFile else { continue }
      let conversion = try GGUFConversion(of: source, encoding: encoding, convolutions: convolutions)
      let file = config["_class_name"] == nil ? "model.gguf" : "diffusion_pytorch_model.gguf"
      writer.set(
        name,
        .file(config: config, name: file) { [summary] url in
          let part = try conversion.write(to: url) { _, _ in try check() }
          summary.value.withLock { $0 += part }
        })
    }
    self.writer = writer
  }

  /// Of autoencoders every rounding shows, and a safety checker is not read.
  private static func staysDense(_ className: String) -> Bool {
    className.hasPrefix("Autoencoder") || className.hasPrefix("VQ") || className.hasSuffix("SafetyChecker")
  }

  /// Writes the folder, which appears under its name when it is complete and a model is there that can be read.
  ///
  /// Throws `RunError.unwritable`, and `.occupied` where something else than a model is there; and what reading throws.
  public func write(to url: URL) throws -> GGUFConversion.Summary {
    summary.value.withLock { $0 = GGUFConversion.Summary() }
    try writer.write(to: url)
    return summary.value.withLock { $0 }
  }
}
