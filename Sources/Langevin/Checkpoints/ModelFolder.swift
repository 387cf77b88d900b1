import Foundation
import LangevinJSON
import LangevinNN

/// A model as diffusers lays it out: model_index.json and a folder for each component.
enum ModelFolder {
  /// Throws `CheckpointError`.
  static func open(_ url: URL, prediction: String?) throws -> Checkpoint {
    let indexFile = url.appendingPathComponent("model_index.json")
    let index = try JSONFile.read(indexFile)
    guard let name = index["_class_name"]?.string, case .object(let members) = index else {
      throw CheckpointError.malformed(path: indexFile.path, reason: "it has no _class_name")
    }
    guard let pipeline = Pipelines.type(of: name) else {
      throw CheckpointError.unsupported(path: indexFile.path, found: name, supported: Pipelines.examples)
    }
    // ["diffusers", "UNet2DConditionModel"]; [null, null] for what was left out.
    var classes: [String: String] = [:]
    for member in members {
      if case .array(let entry) = member.value, let name = entry.last?.string { classes[member.key] = name }
    }
    // For previews; diffusers has no place for it.
    if FileManager.default.fileExists(atPath: url.appendingPathComponent("taesd").path) {
      classes["taesd"] = classes["taesd"] ?? "AutoencoderTiny"
    }
    for need in pipeline.components {
      guard let found = classes[need.name],
        FileManager.default.fileExists(atPath: url.appendingPathComponent(need.name).path)
      else { throw CheckpointError.missingComponent(path: url.path, name: need.name) }
      guard need.classes.isEmpty || need.classes.contains(found) else {
        throw CheckpointError.unsupported(
          path: indexFile.path, found: "\(need.name) \(found)", supported: need.classes)
      }
    }
    // What the pipeline can do without may be missing, as Stable Diffusion 3's largest text encoder often is.
    classes = classes.filter {
      FileManager.default.fileExists(atPath: url.appendingPathComponent($0.key).path)
    }
    return Checkpoint(
      folder: url, pipeline: name, classes: classes, index: index, prediction: prediction,
      recommended: try RecommendedSettings.read(from: url))
  }

  /// One network's folder. Without a class's name it is what config.json says: diffusers' `_class_name` or
  /// transformers' first of `architectures`. `initial` makes the weights of a folder that has none.
  ///
  /// Throws `CheckpointError`.
  static func component(
    _ folder: URL, className: String? = nil, initial: (() -> any WeightSource)? = nil
  ) throws -> Checkpoint.Component {
    let (name, config) = try configuration(folder, className: className)
    if let initial, !hasWeights(folder) {
      return Checkpoint.Component(name, config: config, weights: initial())
    }
    return Checkpoint.Component(name, config: config, weights: try weights(in: folder))
  }

  /// A network's class and config.json. Throws as `component` does.
  static func configuration(_ folder: URL, className: String? = nil) throws -> (
    className: String, config: StrictJSON
  ) {
    let file = folder.appendingPathComponent("config.json")
    let config = try JSONFile.read(file)
    guard case .object = config else {
      throw CheckpointError.malformed(path: file.path, reason: "it is no object")
    }
    var architecture: String?
    if case .array(let names) = config["architectures"] { architecture = names.first?.string }
    guard let name = className ?? config["_class_name"]?.string ?? architecture else {
      throw CheckpointError.malformed(
        path: file.path, reason: "it names no class: it has neither _class_name nor architectures")
    }
    return (name, config)
  }

  private static func hasWeights(_ folder: URL) -> Bool {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return files.contains { name in
      name.contains(".safetensors") || (PickleCheck.suffixes.contains { name.hasSuffix("." + $0) })
    }
  }

  /// The weights under the names in use, full precision before float16.
  static func weights(in folder: URL) throws -> any WeightSource {
    func file(_ name: String) -> URL? {
      let url = folder.appendingPathComponent(name)
      return FileManager.default.fileExists(atPath: url.path) ? url : nil
    }
    let stems = ["diffusion_pytorch_model", "model"]
    for variant in ["", ".fp16"] {
      for stem in stems {
        if let url = file("\(stem)\(variant).safetensors") { return try SafetensorsFile(url: url) }
        if let url = file("\(stem)\(variant).gguf") { return try GGUFFile(url: url) }
        for index in ["\(stem).safetensors.index\(variant).json", "\(stem)\(variant).safetensors.index.json"]
        {
          if let url = file(index) { return try ShardedCheckpoint(index: url) }
        }
      }
    }
    for stem in ["diffusion_pytorch_model", "pytorch_model"] {
      for name in ["\(stem).bin", "\(stem).fp16.bin"] {
        if let url = file(name) { throw CheckpointError.pickle(path: url.path) }
      }
    }
    throw CheckpointError.missingFile(path: folder.appendingPathComponent("*.safetensors").path)
  }
}
