import Foundation
import LangevinJSON
import LangevinNN

/// A model as diffusers lays it out: model_index.json and a folder for each component.
enum ModelFolder {
  static let pipelines = ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"]

  /// The classes of the components which a pipeline must have.
  private static let classes: [(component: String, supported: [String])] = [
    ("unet", ["UNet2DConditionModel"]), ("vae", ["AutoencoderKL"]), ("text_encoder", ["CLIPTextModel"]),
    ("tokenizer", ["CLIPTokenizer", "CLIPTokenizerFast"]),
  ]

  /// Throws `CheckpointError`.
  static func open(_ url: URL, prediction: String?) throws -> Checkpoint {
    let indexFile = url.appendingPathComponent("model_index.json")
    let index = try JSONFile.read(indexFile)
    guard let pipeline = index["_class_name"]?.string else {
      throw CheckpointError.malformed(path: indexFile.path, reason: "it has no _class_name")
    }
    guard pipelines.contains(pipeline) else {
      throw CheckpointError.unsupported(path: indexFile.path, found: pipeline, supported: pipelines)
    }
    for (component, supported) in classes {
      guard case .array(let entry) = index[component], let name = entry.last?.string else {
        throw CheckpointError.malformed(path: indexFile.path, reason: "it names no class for \(component)")
      }
      guard supported.contains(name) else {
        throw CheckpointError.unsupported(
          path: indexFile.path, found: "\(component) \(name)", supported: supported)
      }
    }
    func component(_ name: String) throws -> Checkpoint.Component {
      let folder = url.appendingPathComponent(name)
      let file = folder.appendingPathComponent("config.json")
      let config = try JSONFile.read(file)
      guard case .object = config else {
        throw CheckpointError.malformed(path: file.path, reason: "it is no object")
      }
      return Checkpoint.Component(config: config, weights: try weights(in: folder))
    }
    let schedulerFile = url.appendingPathComponent("scheduler/scheduler_config.json")
    let scheduler = try JSONFile.read(schedulerFile)
    guard case .object(var members) = scheduler else {
      throw CheckpointError.malformed(path: schedulerFile.path, reason: "it is no object")
    }
    if let prediction {
      members.removeAll { $0.key == "prediction_type" }
      members.append(StrictJSON.Member("prediction_type", .string(prediction)))
    }
    return Checkpoint(
      url: url, unet: try component("unet"), vae: try component("vae"),
      textEncoder: try component("text_encoder"),
      scheduler: StrictJSON.object(members).data, tokenizer: .folder(url.appendingPathComponent("tokenizer")),
      recommended: try RecommendedSettings.read(from: url))
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
