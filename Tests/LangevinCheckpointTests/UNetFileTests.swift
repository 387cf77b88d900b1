import Foundation
import LangevinCPU
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin

private let cpu = Device(CPUBackend())

/// A UNet's file that takes the place of a model's own.
@Suite struct UNetFileTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  private func model(_ name: String = "tiny-sd") throws -> Checkpoint {
    try Checkpoint.open(fixtures.appendingPathComponent(name))
  }

  /// A model's UNet with every number doubled, under diffusers' names where there is no prefix.
  private func write(_ prefix: String?, of name: String = "tiny-sd", inBlocks: Bool = false) throws -> URL {
    let unet = try model(name).unet
    let layout = try #require(SingleFileUNet(UNet2DConditionConfig(unet.configuration)))
    let tensors = try layout.table.map { name, key in
      let tensor = try unet.weights.load(name, on: cpu).affine(scale: 2, offset: 0)
      return (name: prefix.map { $0 + key } ?? name, tensor: tensor)
    }
    let url = temporary.url.appendingPathComponent("\(UUID().uuidString).safetensors")
    try SafetensorsWriter.write(tensors, metadata: [:], to: url)
    guard inBlocks else { return url }
    let file = url.deletingPathExtension().appendingPathExtension("gguf")
    _ = try GGUFConversion(url, encoding: .q8, convolutions: true).write(to: file)
    return file
  }

  @Test(arguments: ["model.diffusion_model.", "diffusion_model.", "", nil], ["tiny-sd", "tiny-xl"])
  func everyLayoutIsTheSameUNet(prefix: String?, name: String) throws {
    let (own, other) = (try model(name), try model(name).replacingDenoiser(with: write(prefix, of: name)))
    #expect(Set(try other.unet.weights.names) == Set(try own.unet.weights.names))
    #expect(try other.unet.config == own.unet.config)
    for name in try own.unet.weights.names {
      let numbers = try own.unet.weights.load(name, on: cpu).floats()
      #expect(try other.unet.weights.load(name, on: cpu).floats() == numbers.map { $0 * 2 }, "\(name)")
    }
    // The rest is the model's.
    #expect(try other.textEncoder.weights.description == own.textEncoder.weights.description)
  }

  @Test func blocksOfAFileStayBlocks() throws {
    let unet = try model().replacingDenoiser(with: write("", inBlocks: true)).unet
    let inBlocks = unet.weights.names.filter { unet.weights.encoding(of: $0) == .q8 }
    #expect(inBlocks.count > 60 && inBlocks.contains { $0.hasSuffix("conv1.weight") })
    // The model reads all of it.
    let config = try UNet2DConditionConfig(unet.configuration)
    let weights = Weights(unet.weights, on: cpu)
    _ = try UNet2DConditionModel(config, weights)
    try weights.finish()
  }

  @Test func ofTheModelsOwnTheConfigurationIsEnough() throws {
    let folder = temporary.url.appendingPathComponent("model")
    try FileManager.default.copyItem(at: fixtures.appendingPathComponent("tiny-sd"), to: folder)
    try FileManager.default.removeItem(
      at: folder.appendingPathComponent("unet/diffusion_pytorch_model.safetensors"))
    let checkpoint = try Checkpoint.open(folder)
    #expect(throws: CheckpointError.self) { try checkpoint.unet }
    #expect(try checkpoint.replacingDenoiser(with: write("")).unet.weights.names.count > 100)
  }

  @Test func whatFitsNoModelIsOneLine() throws {
    func refusal(_ url: URL, _ checkpoint: Checkpoint) throws -> String {
      "\(try #require(throws: CheckpointError.self) { try checkpoint.replacingDenoiser(with: url) })"
    }
    let own = try write("")
    let whole = try Data(contentsOf: own)
    func file(_ data: Data, _ name: String) throws -> URL { try temporary.write([UInt8](data), name) }
    let cases: [(URL, String)] = [
      (try write("", of: "tiny-xl"), "a UNet with levels of"),
      (try file(whole.prefix(whole.count / 2), "cut.safetensors"), "truncated"),
      (fixtures.appendingPathComponent("gguf/two.gguf"), "a file with keys such as"),
      (fixtures.appendingPathComponent("adapters/kohya.safetensors"), "a file with keys such as 'lora_te"),
      (URL(fileURLWithPath: "/no/such.gguf"), "no such file"),
    ]
    for (url, words) in cases {
      let text = try refusal(url, model())
      #expect(text.contains(words) && text.hasPrefix(url.path) && !text.contains("\n"), "\(text)")
    }
    #expect(try refusal(own, model("tiny-ddpm")).contains("which has UNet2DModel is not supported"))
    // A tensor too few, and one too many.
    var tensors = try SafetensorsFile(url: own).names.map {
      (name: $0, tensor: try SafetensorsFile(url: own).load($0, on: cpu))
    }
    let last = tensors.removeLast()
    let url = temporary.url.appendingPathComponent("few.safetensors")
    try SafetensorsWriter.write(tensors, metadata: [:], to: url)
    #expect(try refusal(url, model()).contains("'\(last.name)'"))
    try SafetensorsWriter.write(tensors + [last, ("extra.weight", last.tensor)], metadata: [:], to: url)
    #expect(try refusal(url, model()).contains("extra.weight"))
  }
}

/// Folders whose networks are in blocks.
@Suite struct FolderConversionTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  private func copy(_ name: String) throws -> URL {
    let folder = temporary.url.appendingPathComponent(name)
    try FileManager.default.copyItem(at: fixtures.appendingPathComponent(name), to: folder)
    return folder
  }

  @Test(arguments: ["tiny-sd", "tiny-xl"]) func networksAreInBlocks(name: String) throws {
    let (source, target) = (try copy(name), temporary.url.appendingPathComponent("out"))
    let summary = try FolderConversion(source, encoding: .q8, convolutions: true).write(to: target)
    #expect(summary.inBlocks > 20 && summary.bytesAfter < summary.bytesBefore)
    let (model, dense) = (try Checkpoint.open(target), try Checkpoint.open(source))
    #expect(model.pipeline == dense.pipeline)
    var inBlocks = 0
    for part in ["unet", "text_encoder", "text_encoder_2", "vae"] where dense.contains(part) {
      let (got, expected) = (try model.component(part), try dense.component(part))
      #expect(got.className == expected.className && got.config == expected.config)
      #expect(Set(got.weights.names) == Set(expected.weights.names))
      let encoded = got.weights.names.filter { got.weights.encoding(of: $0) != nil }
      // The text encoders of tiny-xl are 12 wide.
      #expect(encoded.isEmpty == (part == "vae" || name == "tiny-xl" && part != "unet"), "\(part)")
      inBlocks += encoded.count
      for name in encoded.prefix(20) {
        let numbers = try expected.weights.load(name, on: cpu).cast(to: .float32).floats()
        #expect(try got.weights.load(name, on: cpu).shape == expected.weights.spec(of: name)?.shape)
        let largest = numbers.map(abs).max() ?? 0
        let loaded = try got.weights.load(name, on: cpu).floats()
        #expect(zip(loaded, numbers).allSatisfy { abs($0 - $1) <= largest / 200 }, "\(name)")
      }
    }
    #expect(inBlocks == summary.inBlocks)
    #expect(try model.scheduler == dense.scheduler)
  }

  /// GGUF's tensors have four axes at most: the shape of a convolution over frames is noted beside.
  @Test func fiveAxesComeBack() throws {
    let source = fixtures.appendingPathComponent("tiny-wan")
    let target = temporary.url.appendingPathComponent("out")
    _ = try FolderConversion(source, encoding: .q8).write(to: target)
    let name = "patch_embedding.weight"
    let (got, expected) = (
      try Checkpoint.open(target).component("transformer").weights,
      try Checkpoint.open(source).component("transformer").weights
    )
    #expect(got.spec(of: name)?.shape.rank == 5 && got.spec(of: name) == expected.spec(of: name))
    #expect(try got.load(name, on: cpu).floats() == expected.load(name, on: cpu).floats())
    #expect(Set(got.names) == Set(expected.names))
  }

  /// Weights in several files become one, and a component that the folder lacks stays left out.
  @Test func shardsAndWhatIsMissing() throws {
    let source = try copy("tiny-sd")
    let unet = source.appendingPathComponent("unet")
    let file = unet.appendingPathComponent("diffusion_pytorch_model.safetensors")
    let whole = try SafetensorsFile(url: file)
    var map: [StrictJSON.Member] = []
    for (number, names) in [whole.names.prefix(100), whole.names.dropFirst(100)].enumerated() {
      let shard = "part-\(number).safetensors"
      try SafetensorsWriter.write(
        names.map { ($0, try whole.load($0, on: cpu)) }, metadata: [:], to: unet.appendingPathComponent(shard)
      )
      map += names.map { StrictJSON.Member($0, .string(shard)) }
    }
    try FileManager.default.removeItem(at: file)
    try StrictJSON.object([StrictJSON.Member("weight_map", .object(map))]).data.write(
      to: unet.appendingPathComponent("diffusion_pytorch_model.safetensors.index.json"))
    let index = source.appendingPathComponent("model_index.json")
    guard case .object(let members) = try JSONFile.read(index) else {
      Issue.record("no object")
      return
    }
    let checker = StrictJSON.Member(
      "safety_checker", .strings(["stable_diffusion", "StableDiffusionSafetyChecker"]))
    try StrictJSON.object(members.filter { $0.key != checker.key } + [checker]).data.write(to: index)
    let target = temporary.url.appendingPathComponent("out")
    _ = try FolderConversion(source, encoding: .q4, convolutions: false).write(to: target)
    let weights = try Checkpoint.open(target).unet.weights
    #expect(Set(weights.names) == Set(whole.names) && weights is GGUFFile)
    #expect(
      try JSONFile.read(target.appendingPathComponent("model_index.json"))["safety_checker"]
        == .array([.null, .null]))
  }

  @Test func whatIsNoModelIsNotReplacedAndNothingIsLeft() throws {
    let source = try copy("tiny-sd")
    let target = temporary.url.appendingPathComponent("notes")
    try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
    try Data("x".utf8).write(to: target.appendingPathComponent("notes.txt"))
    let before = try FileManager.default.contentsOfDirectory(atPath: temporary.url.path).sorted()
    let conversion = try FolderConversion(source, encoding: .q8)
    #expect(throws: RunError.self) { try conversion.write(to: target) }
    struct Stopped: Error {}
    let stopped = try FolderConversion(source, encoding: .q8, check: { throw Stopped() })
    #expect(throws: Stopped.self) { try stopped.write(to: temporary.url.appendingPathComponent("out")) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.url.path).sorted() == before)
    let file = source.appendingPathComponent("unet/diffusion_pytorch_model.safetensors")
    let bytes = try Data(contentsOf: file)
    try bytes.prefix(bytes.count / 2).write(to: file)
    #expect(throws: CheckpointError.self) { try FolderConversion(source, encoding: .q8) }
  }
}
