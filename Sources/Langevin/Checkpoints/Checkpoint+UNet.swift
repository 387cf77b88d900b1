import Foundation
import LangevinModels
import LangevinNN

extension Checkpoint {
  /// The same with the UNet of a file, which need not hold anything else: a .safetensors or .gguf file under diffusers'
  /// names or the original implementation's, with `model.diffusion_model.` before them or without, as ComfyUI-GGUF and
  /// stable-diffusion.cpp write them. Of the model's own UNet only the configuration is read.
  ///
  /// Throws `CheckpointError`: what opening the file throws, `unsupported` where the pipeline has no UNet or the file one
  /// of another architecture, `missingTensor`, `unknownTensors`; and `ModelError` for the configuration.
  public func replacingUNet(with url: URL) throws -> Checkpoint {
    let name = "unet"
    guard contains(name) else {
      throw CheckpointError.unsupported(
        path: self.url.path, found: "another UNet in \(pipeline), which has none",
        supported: ["models with a UNet"])
    }
    let (className, config) = try configuration(of: name)
    let weights = try UNetFile.weights(
      of: TensorFiles.open(url), UNet2DConditionConfig(ConfigObject(config)))
    return replacing(components: [name: Component(className, config: config, weights: weights)])
  }
}

/// A UNet's file by itself.
private enum UNetFile {
  /// Those that programs put before the original implementation's names.
  private static let prefixes = [SingleFileUNet.prefix, "diffusion_model.", ""]

  /// Its tensors under diffusers' names.
  static func weights(of file: any TensorFile, _ config: UNet2DConditionConfig) throws -> any WeightSource {
    if file.shape(of: "conv_in.weight") != nil { return file }
    func unsupported(_ found: String, _ supported: String) -> CheckpointError {
      .unsupported(path: file.url.path, found: found, supported: [supported])
    }
    guard let prefix = prefixes.first(where: { file.shape(of: $0 + "input_blocks.0.0.weight") != nil }) else {
      let first = file.names.sorted().first
      throw unsupported(
        first.map { "a file with keys such as '\($0)'" } ?? "a file without tensors",
        "a UNet under diffusers' names or the original implementation's")
    }
    guard let wanted = SingleFileUNet(config) else {
      throw unsupported("the original layout for a UNet that only diffusers has", "diffusers' names")
    }
    let hasAdded = file.shape(of: prefix + "label_emb.0.0.weight") != nil
    let found = try SingleFileUNet(file, prefix: prefix, hasAdded: hasAdded)
    guard found.summary == wanted.summary else {
      throw unsupported("a UNet with \(found.summary)", "this model's, with \(wanted.summary)")
    }
    let table = wanted.table.map { (name: $0.name, place: RenamedWeights.Place(key: prefix + $0.key)) }
    let used = Set(table.map(\.place.key))
    // Before a prefix there may be the rest of a checkpoint.
    let unknown = file.names.filter { $0.hasPrefix(prefix) && !used.contains($0) }
    let renamed = try RenamedWeights(table, in: file)
    guard unknown.isEmpty else {
      throw CheckpointError.unknownTensors(path: file.url.path, names: unknown.sorted())
    }
    return renamed
  }
}

extension SingleFileUNet {
  /// What tells one model's UNet from another's.
  fileprivate var summary: String {
    func list(_ values: [Int]) -> String { values.map(String.init).joined(separator: ", ") }
    return
      "levels of \(list(widths)) channels, transformers of depth \(list(depths)), text \(contextWidth) wide and "
      + "\(inChannels) input channels"
  }
}
