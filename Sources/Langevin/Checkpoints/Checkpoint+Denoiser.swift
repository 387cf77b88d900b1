import Foundation
import LangevinModels
import LangevinNN

extension Checkpoint {
  /// The same with the denoiser of a file, which need not hold anything else: a UNet or the transformer of Stable Diffusion
  /// 3, FLUX.1 or WAN as a .safetensors or .gguf file under diffusers' names or its authors', with
  /// `model.diffusion_model.` before them or without, as ComfyUI-GGUF and stable-diffusion.cpp write them. Of the model's
  /// own denoiser only the configuration is read.
  ///
  /// Throws `CheckpointError`: what opening the file throws, `unsupported` where the pipeline has a denoiser of another kind
  /// or the file one of another architecture, `missingTensor`, `unknownTensors`; and `ModelError` for the configuration.
  public func replacingDenoiser(with url: URL) throws -> Checkpoint {
    let name = ["unet", "transformer"].first(where: contains)
    guard let name else { throw otherDenoiser("none") }
    let (className, config) = try configuration(of: name)
    let object = try ConfigObject(config)
    let layout: any AuthorsLayout
    switch className {
    case "UNet2DConditionModel":
      let weights = try DenoiserFile(file: TensorFiles.open(url)).unet(UNet2DConditionConfig(object))
      return replacing(components: [name: Component(className, config: config, weights: weights)])
    case "FluxTransformer2DModel": layout = SingleFileFlux(try FluxTransformer2DConfig(object))
    case "SD3Transformer2DModel": layout = SingleFileSD3(try SD3Transformer2DConfig(object))
    case "WanTransformer3DModel": layout = SingleFileWan(try WanTransformer3DConfig(object))
    default: throw otherDenoiser(className)
    }
    let weights = try DenoiserFile(file: TensorFiles.open(url)).transformer(layout)
    return replacing(components: [name: Component(className, config: config, weights: weights)])
  }

  private func otherDenoiser(_ className: String) -> CheckpointError {
    .unsupported(
      path: url.path, found: "another denoiser in \(pipeline), which has \(className)",
      supported: [
        "UNet2DConditionModel", "SD3Transformer2DModel", "FluxTransformer2DModel", "WanTransformer3DModel",
      ])
  }
}

/// A denoiser's file by itself; what it gives has diffusers' names.
private struct DenoiserFile {
  let file: any TensorFile

  func unet(_ config: UNet2DConditionConfig) throws -> any WeightSource {
    if file.shape(of: "conv_in.weight") != nil { return file }
    let prefix = try prefix(of: "input_blocks.0.0.weight", in: "a UNet")
    guard let wanted = SingleFileUNet(config) else {
      throw unsupported("the original layout for a UNet that only diffusers has", "diffusers' names")
    }
    let hasAdded = file.shape(of: prefix + "label_emb.0.0.weight") != nil
    let found = try SingleFileUNet(file, prefix: prefix, hasAdded: hasAdded)
    guard found.summary == wanted.summary else {
      throw unsupported("a UNet with \(found.summary)", "this model's, with \(wanted.summary)")
    }
    return try renamed(wanted.table.map { ($0.name, RenamedWeights.Place(key: $0.key)) }, after: prefix)
  }

  func transformer<Layout: AuthorsLayout>(_ layout: Layout) throws -> any WeightSource {
    if file.shape(of: Layout.diffusersName) != nil { return file }
    let prefix = try prefix(of: Layout.key, in: "\(Layout.title) transformer")
    let found = try layout.summary(of: file, prefix: prefix)
    guard found == layout.summary else {
      throw unsupported("a transformer with \(found)", "this model's, with \(layout.summary)")
    }
    return try renamed(layout.table.rows, after: prefix)
  }

  private func unsupported(_ found: String, _ supported: String) -> CheckpointError {
    .unsupported(path: file.url.path, found: found, supported: [supported])
  }

  /// What a program put before the original implementation's names, of which `key` is one.
  private func prefix(of key: String, in kind: String) throws -> String {
    let prefixes = [SingleFileUNet.prefix, "diffusion_model.", ""]
    if let prefix = prefixes.first(where: { file.shape(of: $0 + key) != nil }) { return prefix }
    let first = file.names.sorted().first
    throw unsupported(
      first.map { "a file with keys such as '\($0)'" } ?? "a file without tensors",
      "\(kind) under diffusers' names or the original implementation's")
  }

  /// All of a table's tensors, and no others behind the prefix; before a prefix there may be the rest of a checkpoint.
  private func renamed(_ table: [(name: String, place: RenamedWeights.Place)], after prefix: String) throws
    -> RenamedWeights
  {
    let table = table.map { name, place in
      var place = place
      place.key = prefix + place.key
      return (name: name, place: place)
    }
    let used = Set(table.map(\.place.key))
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
