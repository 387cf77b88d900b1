import Foundation
import LangevinCPU
import LangevinJSON
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin

@Suite struct ModelFolderWriterTests {
  let scratch: RunScratch
  let device = Device(CPUBackend())

  init() throws { scratch = try RunScratch() }

  private func fixture(_ name: String) -> URL { RunScratch.fixtures.appending(path: name) }

  private func tensors(_ source: any WeightSource) throws -> [(name: String, tensor: Tensor)] {
    try source.names.map { ($0, try source.load($0, on: device)) }
  }

  /// A model's folder with every network written anew.
  private func resaved(_ name: String, _ networks: [String]) throws -> ModelFolderWriter {
    let checkpoint = try Checkpoint.open(fixture(name))
    var writer = try ModelFolderWriter(copying: fixture(name))
    for name in networks {
      let component = try checkpoint.component(name)
      writer.set(name, .network(config: component.config, tensors: try tensors(component.weights)))
    }
    return writer
  }

  private func expectEqual(_ a: any WeightSource, _ b: any WeightSource, as dtype: DType) throws {
    #expect(Set(a.names) == Set(b.names) && !a.names.isEmpty)
    for name in b.names {
      let (a, b) = (try a.load(name, on: device), try b.load(name, on: device))
      #expect(a.dtype == dtype)
      #expect(try a.shape == b.shape && a.floats() == b.floats(), "\(name)")
    }
  }

  private func json(_ path: String) throws -> StrictJSON { try JSONFile.read(scratch.url(path)) }

  // MARK: What is written

  @Test(arguments: [DType.float32, .float16])
  func aPipelinesFolderIsWrittenAnew(_ dtype: DType) throws {
    let networks = ["unet", "vae", "text_encoder"]
    try resaved("tiny-sd", networks).write(to: scratch.url("model"), as: dtype)
    #expect(try scratch.files() == ["model"])
    #expect(
      try scratch.files("model")
        == ["model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae"])
    #expect(try scratch.files("model/unet") == ["config.json", "diffusion_pytorch_model.safetensors"])
    #expect(try scratch.files("model/text_encoder") == ["config.json", "model.safetensors"])
    let (old, new) = (try Checkpoint.open(fixture("tiny-sd")), try Checkpoint.open(scratch.url("model")))
    for name in networks {
      try expectEqual(new.component(name).weights, old.component(name).weights, as: dtype)
    }
    #expect(new.index == old.index)
    #expect(try new.scheduler == old.scheduler && new.unet.config == old.unet.config)
    #expect(try new.textEncoder.config["dtype"]?.string == dtype.rawValue)
    #expect(try new.tokenizer.load().maximumLength == 77)
    let file = try SafetensorsFile(url: scratch.url("model/unet/diffusion_pytorch_model.safetensors"))
    #expect(file.metadata == ["format": "pt"])
    // It can be drawn with.
    _ = try Pipelines.open(new, on: device)
  }

  @Test func aPipelineIsWrittenFromItsParts() throws {
    let old = try Checkpoint.open(fixture("tiny-ddpm"))
    var writer = ModelFolderWriter(pipeline: "DDPMPipeline")
    writer.set("unet", .network(config: try old.unet.config, tensors: try tensors(old.unet.weights)))
    writer.set("scheduler", .scheduler(try StrictJSON(parsing: Array(old.scheduler))))
    writer.recommended = RecommendedSettings(guidance: 2.5, steps: 40, sampler: .ddim)
    writer.texts = [("README.md", "Trained.\n")]
    try writer.write(to: scratch.url("a/model"))
    #expect(
      try scratch.files("a/model") == ["README.md", "langevin.json", "model_index.json", "scheduler", "unet"])
    let new = try Checkpoint.open(scratch.url("a/model"))
    try expectEqual(new.unet.weights, old.unet.weights, as: .float32)
    #expect(new.recommended == writer.recommended)
    let index = try json("a/model/model_index.json")
    for name in ["_class_name", "scheduler", "unet"] { #expect(index[name] == old.index[name]) }
    #expect(index["scheduler"] == .strings(["diffusers", "DDPMScheduler"]))
  }

  @Test func clipIsWrittenByItself() throws {
    let old = try ModelFolder.component(fixture("tiny-clip"))
    guard case .object(var members) = old.config else { return }
    members.append(StrictJSON.Member("nested", .object([StrictJSON.Member("torch_dtype", .string("x"))])))
    var writer = ModelFolderWriter(pipeline: nil)
    writer.set("clip", .network(config: .object(members), tensors: try tensors(old.weights)))
    writer.set("tokenizer", .tokenizer(fixture("tiny-sd/tokenizer")))
    let preprocessor = try JSONFile.read(fixture("tiny-clip/preprocessor_config.json"))
    writer.set("preprocessor", .preprocessor(preprocessor))
    try writer.write(to: scratch.url("model"))
    #expect(
      try scratch.files("model") == [
        "config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json",
        "tokenizer_config.json",
      ])
    let config = try json("model/config.json")
    #expect(config["dtype"]?.string == "float32" && config["nested"]?["torch_dtype"]?.string == "float32")
    try expectEqual(ModelFolder.component(scratch.url("model")).weights, old.weights, as: .float32)
    let embedder = try Embedder(scratch.url("model"), on: device)
    #expect(try embedder.embed(texts: ["a grinning face"]).shape == [1, 12])
  }

  @Test func ofATokenizersFolderOnlyItsFilesAreCopiedAndLinksAreFollowed() throws {
    let source = scratch.url("source")
    try FileManager.default.createDirectory(at: source, withIntermediateDirectories: false)
    for name in ["tokenizer.json", "tokenizer_config.json"] {
      // As the Hugging Face cache has them.
      try FileManager.default.createSymbolicLink(
        at: source.appending(path: name), withDestinationURL: fixture("tiny-sd/tokenizer/\(name)"))
    }
    try scratch.write([1], to: "source/model.safetensors")
    var writer = try resaved("tiny-sd", [])
    writer.set("tokenizer", .tokenizer(source))
    try writer.write(to: scratch.url("model"))
    #expect(try scratch.files("model/tokenizer") == ["tokenizer.json", "tokenizer_config.json"])
    var status = stat()
    #expect(lstat(scratch.url("model/tokenizer/tokenizer.json").path, &status) == 0)
    #expect(status.st_mode & S_IFMT == S_IFREG)
    #expect(try json("model/model_index.json")["tokenizer"] == .strings(["transformers", "CLIPTokenizer"]))
  }

  // MARK: Whole or not at all

  @Test func aModelIsReplacedAndNothingElse() throws {
    let url = scratch.url("model")
    let writer = try resaved("tiny-sd", ["unet"])
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false)
    try writer.write(to: url, as: .float16)
    try scratch.write([1], to: "model/unet/left.over")
    try writer.write(to: url, as: .float32)
    #expect(try scratch.files("model/unet") == ["config.json", "diffusion_pytorch_model.safetensors"])
    #expect(try Checkpoint.open(url).unet.weights.spec(of: "conv_in.weight")?.dtype == .float32)
    // By a link's name.
    try FileManager.default.createSymbolicLink(at: scratch.url("link"), withDestinationURL: url)
    try writer.write(to: scratch.url("link"), as: .float16)
    #expect(try Checkpoint.open(url).unet.weights.spec(of: "conv_in.weight")?.dtype == .float16)
    for name in ["other", "file"] {
      if name == "other" {
        try FileManager.default.createDirectory(at: scratch.url("other"), withIntermediateDirectories: false)
        try scratch.write([1], to: "other/notes.txt")
      } else {
        try scratch.write([1], to: "file")
      }
      #expect(throws: RunError.self) { try writer.write(to: scratch.url(name)) }
    }
    #expect(try scratch.files("other") == ["notes.txt"])
    #expect(try scratch.files() == ["file", "link", "model", "other"])
  }

  @Test func whatMakesNoModelReplacesNone() throws {
    let url = scratch.url("model")
    try resaved("tiny-sd", []).write(to: url)
    let before = try scratch.bytes("model/unet/diffusion_pytorch_model.safetensors")
    func refusal(_ change: (inout ModelFolderWriter) throws -> Void) throws -> String {
      var writer = try resaved("tiny-sd", [])
      try change(&writer)
      let error = #expect(throws: (any Error).self) { try writer.write(to: url) }
      #expect(try scratch.files() == ["model"])
      #expect(try scratch.bytes("model/unet/diffusion_pytorch_model.safetensors") == before)
      return error.map { "\($0)" } ?? ""
    }
    let config = try Checkpoint.open(url).unet.config
    #expect(try refusal { $0.set("vae", .copy(scratch.url("missing"))) }.contains("missing: no such file"))
    #expect(
      try refusal { $0.set("unet", .network(config: .object([]), tensors: [])) }.contains("names no class"))
    #expect(try refusal { $0.set("tokenizer", .tokenizer(fixture("pictures"))) }.contains("tokenizer.json"))
    let twice = [Float](repeating: 1, count: 4)
    let tensor = try Tensor(twice, [4], on: device)
    #expect(
      try refusal { $0.set("unet", .network(config: config, tensors: [("a", tensor), ("a", tensor)])) }
        .contains("'a' appears twice"))
    var unknown = ModelFolderWriter(pipeline: "NoPipeline")
    unknown.set("unet", .copy(fixture("tiny-sd/unet")), library: "diffusers", className: "UNet2DModel")
    #expect(throws: CheckpointError.self) { try unknown.write(to: url) }
  }

  @Test func aReaderSeesAWholeFolderAlways() throws {
    let url = scratch.url("model")
    let (device, tensor) = (device, try Tensor([1.5, 2] as [Float], [2], on: device))
    func writer(_ number: Int) -> ModelFolderWriter {
      var writer = ModelFolderWriter(pipeline: nil)
      let config = StrictJSON.object([
        StrictJSON.Member("_class_name", .string("Net")), StrictJSON.Member("number", .integer(number)),
      ])
      let name = "diffusion_pytorch_model"
      writer.set("net", .network(config: config, tensors: [(name, tensor)]))
      return writer
    }
    try writer(0).write(to: url)
    let end = DispatchSemaphore(value: 0)
    let reader = Thread {
      defer { end.signal() }
      while !Thread.current.isCancelled {
        do {
          let component = try ModelFolder.component(url)
          _ = try component.weights.load("diffusion_pytorch_model", on: device)
        } catch {
          Issue.record("\(error)")
          return
        }
      }
    }
    reader.start()
    for number in 1...60 { try writer(number).write(to: url) }
    reader.cancel()
    end.wait()
    #expect(try json("model/config.json")["number"]?.count == 60)
    #expect(try scratch.files() == ["model"])
  }

  @Test func whatAKilledRunLeavesIsSwept() throws {
    for name in [".langevin-1-2.folder", ".langevin-1-3.folder", ".langevin-notes"] {
      let folder = scratch.url(name)
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
      try scratch.write([1], to: "\(name)/file")
    }
    let living = open(scratch.url(".langevin-1-3.folder").path, O_RDONLY | O_CLOEXEC)
    defer { close(living) }
    try #require(living >= 0 && flock(living, LOCK_EX) == 0)
    try resaved("tiny-sd", []).write(to: scratch.url("model"))
    #expect(try scratch.files() == [".langevin-1-3.folder", ".langevin-notes", "model"])
  }
}
