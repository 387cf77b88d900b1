import Foundation
import LangevinDiffusion
import LangevinJSON
import LangevinTensor
import Testing

@testable import Langevin

private let tiny = fixtures.appendingPathComponent("tiny-sd")

@Suite struct FolderTests {
  let temporary: TemporaryFolder
  let model: URL

  init() throws {
    temporary = try TemporaryFolder()
    model = temporary.url.appendingPathComponent("model")
    try FileManager.default.copyItem(at: tiny, to: model)
  }

  private func file(_ path: String) -> URL { model.appendingPathComponent(path) }

  private func refusal() -> String {
    let error = #expect(throws: CheckpointError.self) {
      try Pipelines.open(Checkpoint.open(model), on: host)
    }
    #expect(error?.description.contains("\n") == false)
    return error?.description ?? ""
  }

  @Test func opensAFolder() throws {
    let checkpoint = try Checkpoint.open(model)
    #expect(try checkpoint.unet.weights.spec(of: "conv_in.weight") == TensorSpec([32, 4, 3, 3], .float16))
    #expect(try checkpoint.vae.weights.names.contains("encoder.mid_block.attentions.0.to_q.weight"))
    let config = try checkpoint.unet.config
    #expect(config["cross_attention_dim"]?.count == 64)
    let scheduler = try StrictJSON(parsing: [UInt8](checkpoint.scheduler))
    #expect(scheduler["prediction_type"]?.string == "epsilon")
    #expect(try checkpoint.tokenizer.load().maximumLength == 77)

    let overridden = try Checkpoint.open(model, prediction: "v_prediction")
    let scheduler2 = try StrictJSON(parsing: [UInt8](overridden.scheduler))
    #expect(scheduler2["prediction_type"]?.string == "v_prediction")
    #expect(scheduler2["beta_end"] == scheduler["beta_end"])
  }

  /// As DPMSolverMultistepScheduler is saved: Python writes infinities bare.
  @Test func infinitiesOfASchedulerAreRead() throws {
    let url = file("scheduler/scheduler_config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    for word in ["-Infinity", "Infinity"] {
      let edited = text.replacingOccurrences(of: "{", with: "{\n  \"lambda_min_clipped\": \(word),")
      try edited.write(to: url, atomically: true, encoding: .utf8)
      let scheduler = try Checkpoint.open(model).scheduler
      guard word == "Infinity" else {
        #expect(try DPMpp2MSampler(SchedulerFile(json: scheduler)).settings.lambdaMin == -.infinity)
        continue
      }
      // Read, and then out of its range.
      #expect(
        throws: DiffusionError.configuration(field: "lambda_min_clipped", reason: "inf is not at most 0")
      ) {
        try NoiseSchedule(json: scheduler)
      }
    }
    #expect(throws: StrictJSON.ParseError.self) { try StrictJSON(parsing: Array("[-Infinity]".utf8)) }
  }

  /// The single file holds the same weights under the original keys.
  @Test func singleFileEqualsFolder() throws {
    let folder = try Checkpoint.open(model)
    let single = try Checkpoint.open(fixtures.appendingPathComponent("tiny-sd.safetensors"))
    for (a, b) in try [
      (folder.unet, single.unet), (folder.vae, single.vae), (folder.textEncoder, single.textEncoder),
    ] {
      func plain(_ name: String) -> String {
        name.hasPrefix("text_model.") ? String(name.dropFirst(11)) : name
      }
      let names = Dictionary(uniqueKeysWithValues: b.weights.names.map { (plain($0), $0) })
      #expect(Set(a.weights.names.map(plain)) == Set(names.keys))
      for name in a.weights.names {
        let (x, y) = (
          try a.weights.load(name, on: host), try b.weights.load(try #require(names[plain(name)]), on: host)
        )
        #expect(x.spec == y.spec, "\(name)")
        #expect(try x.withBytes { Array($0) } == y.withBytes { Array($0) }, "\(name)")
      }
    }
  }

  @Test func weightsUnderTheNamesInUse() throws {
    let unet = file("unet")
    func move(_ old: String, _ new: String) throws {
      try FileManager.default.moveItem(
        at: unet.appendingPathComponent(old), to: unet.appendingPathComponent(new))
    }
    let name = "diffusion_pytorch_model"
    try move("\(name).safetensors", "\(name).fp16.safetensors")
    let count = try Checkpoint.open(model).unet.weights.names.count
    try move("\(name).fp16.safetensors", "\(name)-00001-of-00001.safetensors")
    let names = try SafetensorsFile(url: unet.appendingPathComponent("\(name)-00001-of-00001.safetensors"))
      .names
    let map = StrictJSON.object(
      names.map { StrictJSON.Member($0, .string("\(name)-00001-of-00001.safetensors")) })
    let index = StrictJSON.object([StrictJSON.Member("weight_map", map)]).data
    try index.write(to: unet.appendingPathComponent("\(name).safetensors.index.json"))
    #expect(try Checkpoint.open(model).unet.weights.names.count == count)
    #expect(try Checkpoint.open(model).unet.weights is ShardedCheckpoint)

    try FileManager.default.removeItem(at: unet.appendingPathComponent("\(name).safetensors.index.json"))
    #expect(refusal().contains("unet/*.safetensors: no such file"))
    try Data([1]).write(to: unet.appendingPathComponent("\(name).bin"))
    #expect(refusal().contains("\(name).bin: is a Python pickle"))
  }

  @Test func refusesOtherPipelinesAndComponents() throws {
    let index = file("model_index.json")
    let text = try String(contentsOf: index, encoding: .utf8)
    func edit(_ old: String, _ new: String) throws -> String {
      #expect(text.contains(old))
      try text.replacingOccurrences(of: old, with: new).write(to: index, atomically: true, encoding: .utf8)
      return refusal()
    }
    let pipeline = try edit("StableDiffusionPipeline", "LTXPipeline")
    #expect(pipeline.contains("LTXPipeline") && pipeline.contains("StableDiffusionPipeline"))
    #expect(try edit("UNet2DConditionModel", "UNet3DConditionModel").contains("unet UNet3DConditionModel"))
    #expect(try edit("CLIPTextModel", "T5EncoderModel").contains("text_encoder T5EncoderModel"))
    #expect(try edit("\"_class_name\"", "\"class\"").contains("no _class_name"))
    #expect(try edit("{", "").contains("malformed"))
    try FileManager.default.removeItem(at: index)
    #expect(refusal().contains("model_index.json: no such file"))
  }

  @Test func refusesConfigurationsThatAreAmbiguousOrNoObject() throws {
    for part in ["unet", "vae", "text_encoder"] {
      let url = file("\(part)/config.json")
      let saved = try Data(contentsOf: url)
      try Data(#"{"layers": 1, "layers": 2}"#.utf8).write(to: url)
      #expect(refusal().contains("\(part)/config.json") && refusal().contains("layers"))
      try Data("[1]".utf8).write(to: url)
      #expect(refusal().contains("\(part)/config.json") && refusal().contains("it is no object"))
      try saved.write(to: url)
    }
  }

  @Test func recommendedSettingsAreReadStrictly() throws {
    #expect(try Checkpoint.open(model).recommended == RecommendedSettings())
    let url = file("langevin.json")
    try Data(#"{"sampler": "euler-a", "steps": 12}"#.utf8).write(to: url)
    #expect(
      try Checkpoint.open(model).recommended == RecommendedSettings(steps: 12, sampler: .eulerAncestral))
    for (text, reason) in [
      (#"{"guidance": -1}"#, "guidance must be 0 to 1000, got -1"),
      (#"{"guidance": "3"}"#, #"got "3""#), (#"{"guidance": NaN}"#, "got NaN"),
      (#"{"steps": 0}"#, "steps must be 1 to 10000, got 0"), (#"{"steps": 1.5}"#, "got 1.5"),
      (#"{"sampler": "best"}"#, "dpmpp-2m-karras"), (#"{"step": 3}"#, "unknown key 'step'"),
      ("[]", "no object"), ("{", "malformed"), (#"{"steps": 1, "steps": 2}"#, "steps"),
    ] {
      try Data(text.utf8).write(to: url)
      let found = refusal()
      #expect(found.contains("langevin.json") && found.contains(reason), "\(found)")
    }
  }

  @Test func refusesMissingAndBrokenParts() throws {
    for path in [
      "unet/config.json", "scheduler/scheduler_config.json", "vae/diffusion_pytorch_model.safetensors",
    ] {
      let saved = try Data(contentsOf: file(path))
      try FileManager.default.removeItem(at: file(path))
      #expect(refusal().contains("no such file"), "\(path)")
      try saved.prefix(saved.count / 2).write(to: file(path))
      let broken = refusal()
      #expect(broken.contains("malformed") || broken.contains("truncated"), "\(path)")
      try saved.write(to: file(path))
    }
    _ = try Checkpoint.open(model)
    let nowhere = temporary.url.appendingPathComponent("nowhere")
    #expect(throws: CheckpointError.missingFile(path: nowhere.path)) { try Checkpoint.open(nowhere) }
    let pickle = try temporary.write([0x50, 0x4B, 3, 4], "sd.ckpt")
    #expect(throws: CheckpointError.pickle(path: pickle.path)) { try Checkpoint.open(pickle) }
  }
}
