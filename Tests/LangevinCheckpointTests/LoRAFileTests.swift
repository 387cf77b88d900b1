import Foundation
import LangevinCPU
import LangevinJSON
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin

private let folder = fixtures.appendingPathComponent("adapters")
private let cpu = Device(CPUBackend())

/// Names, scales and layers of LoRA files; what they draw is in AdapterTests.
@Suite struct LoRAFileTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  private func model(_ name: String = "tiny-sd") throws -> Checkpoint {
    try Checkpoint.open(fixtures.appendingPathComponent(name))
  }

  private func lora(_ name: String) throws -> LoRAFile {
    try LoRAFile(url: folder.appendingPathComponent("\(name).safetensors"))
  }

  /// A file of tensors of these shapes.
  private func write(_ shapes: [(String, Shape)], metadata: [String: String] = [:]) throws -> URL {
    let url = temporary.url.appendingPathComponent("\(UUID().uuidString).safetensors")
    let tensors = try shapes.map { (name: $0, tensor: try Tensor.fill(0.5, $1, on: cpu)) }
    try SafetensorsWriter.write(tensors, metadata: metadata, to: url)
    return url
  }

  private static let layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"

  @Test(arguments: [
    ("unet.\(layer).lora_A.weight", LoRAKey.Part.down), ("unet.\(layer).lora_B.weight", .up),
    ("unet.\(layer).lora.down.weight", .down), ("unet.\(layer).lora.up.weight", .up),
    ("unet.\(layer).alpha", .alpha),
    ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight", .up),
  ])
  func everyLayoutOfDiffusersIsUnderstood(key: String, part: LoRAKey.Part) throws {
    let parsed = try #require(LoRAKey(key))
    #expect(parsed.target == LoRAKey.Target(component: "unet", layer: Self.layer, isFlat: false))
    #expect(parsed.part == part)
  }

  @Test func textEncodersLayersHaveTransformersNames() throws {
    let layer = "text_model.encoder.layers.0.self_attn"
    for (key, name) in [
      ("text_encoder.\(layer).to_out_lora.down.weight", "out_proj"),
      ("text_encoder.\(layer).q_proj.lora_linear_layer.down.weight", "q_proj"),
      ("text_encoder.\(layer).to_v_lora.down.weight", "v_proj"),
    ] {
      let parsed = try #require(LoRAKey(key))
      #expect(parsed.target.layer == "\(layer).\(name)")
    }
    let kohya = try #require(LoRAKey("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"))
    #expect(kohya.target.component == "text_encoder_2" && kohya.target.isFlat && kohya.part == .up)
    for key in ["lora_unet_conv_in.lora_down.bias", "unet.conv_in.weight", "conv_in", "unet.lora_A"] {
      #expect(LoRAKey(key) == nil, "\(key)")
    }
  }

  /// The same adapter in two layouts: as many layers, the same ones, of the same scales.
  @Test(arguments: [("peft", "kohya", "tiny-sd"), ("xl-peft", "xl-kohya", "tiny-xl")])
  func layoutsOfOneAdapterAreOneAdapter(first: String, second: String, name: String) throws {
    let model = try model(name)
    func scales(_ name: String) throws -> [String: Float] {
      let layers = try lora(name).layers(of: model, on: cpu)
      return Dictionary(uniqueKeysWithValues: layers.map { ("\($0.component) \($0.name)", $0.alpha) })
    }
    let (a, b) = (try scales(first), try scales(second))
    #expect(a == b && a.count > 60)
    if name == "tiny-sd" {
      #expect(a["unet mid_block.attentions.0.proj_in"] == 3 && a["unet conv_in"] == 8)
    }
  }

  @Test func processorsHaveTheLayersOfAttention() throws {
    let model = try model()
    let all = try lora("diffusers").layers(of: model, on: cpu)
    let old = try lora("processors").layers(of: model, on: cpu)
    #expect(all.count == 40 && old.count == 32)
    for layer in old {
      let other = try #require(all.first { $0.component == "unet" && $0.name == layer.name })
      #expect(other.alpha == layer.alpha)
      #expect(try other.down.floats() == layer.down.floats() && other.up.floats() == layer.up.floats())
    }
  }

  @Test func whatIsWrittenIsWhatWasRead() throws {
    for name in ["tiny-sd", "tiny-xl"] {
      let model = try model(name)
      let layers = try lora(name == "tiny-xl" ? "xl-peft" : "peft").layers(of: model, on: cpu)
      let urls = ["diffusers", "kohya"].map { temporary.url.appendingPathComponent("\($0).safetensors") }
      try LoRAFile.write(layers, to: urls[0])
      try LoRAFile.writeKohya(layers, of: model, to: urls[1])
      for url in urls {
        let again = try LoRAFile(url: url).layers(of: model, on: cpu)
        #expect(again.count == layers.count)
        let byName = Dictionary(uniqueKeysWithValues: again.map { ("\($0.component) \($0.name)", $0) })
        for layer in layers {
          let other = try #require(byName["\(layer.component) \(layer.name)"])
          #expect(other.alpha == layer.alpha, "\(layer.name)")
          #expect(try other.down.floats() == layer.down.floats() && other.up.floats() == layer.up.floats())
        }
      }
      let prefix = name == "tiny-xl" ? "lora_te1_" : "lora_te_"
      let names = try SafetensorsFile(url: urls[1]).names
      #expect(names.contains { $0.hasPrefix(prefix) })
      #expect(names.contains { $0.hasPrefix("lora_unet_input_blocks_") } == (name == "tiny-xl"))
    }
  }

  // MARK: Scales

  @Test func withoutAlphaTheScaleIsOne() throws {
    let changes = try lora("processors").changes
    #expect(changes.allSatisfy { $0.alpha == 3 && $0.rank == 3 } && changes.count == 32)
  }

  @Test(arguments: [
    ("{\"unet.lora_alpha\": 8, \"unet.use_rslora\": true}", Float(8 * 2)),
    ("{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"blocks.1.x\": 3, \".*in\": 5}}", 5),
    ("{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"nv_in\": 3}}", 8),
    ("{\"text_encoder.lora_alpha\": 8}", 4),
  ])
  func alphasAreThoseOfTheMetadata(text: String, alpha: Float) throws {
    let url = try write(
      [("unet.conv_in.lora_A.weight", [4, 4, 3, 3]), ("unet.conv_in.lora_B.weight", [32, 4, 1, 1])],
      metadata: [LoRAMetadata.key: text])
    #expect(try LoRAFile(url: url).changes.map(\.alpha) == [alpha])
  }

  // MARK: Faults

  @Test func aLayerThatTheModelHasNotIsNamed() throws {
    let other = try lora("xl-peft")
    let error = try #require(throws: AdapterError.self) { try model().merging([(other, 1)]) }
    guard case .unmatched(_, let names, let total) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(!names.isEmpty && names.count < total)
    #expect("\(error)".contains("'\(names[0])'") && "\(error)".contains("\(names.count) of its \(total)"))
    #expect(throws: Never.self) { try model("tiny-xl").merging([(other, 1)]) }
  }

  @Test func aLayerOfAnotherShapeIsNamed() throws {
    let layer = "unet.\(Self.layer)"
    for (down, up) in [([4, 40], [32, 4]), ([4, 32], [40, 4]), ([4, 32, 3, 3], [32, 4])]
      as [(Shape, Shape)]
    {
      let file = try LoRAFile(
        url: write([("\(layer).lora_A.weight", down), ("\(layer).lora_B.weight", up)]))
      let error = try #require(throws: AdapterError.self) { try model().merging([(file, 1)]) }
      #expect(
        "\(error)".contains("\(layer).lora_") && "\(error)".contains("layer unet.\(Self.layer)"), "\(error)")
    }
    let file = try LoRAFile(
      url: write([("\(layer).lora_A.weight", [4, 32, 1, 1]), ("\(layer).lora_B.weight", [32, 4])]))
    #expect(throws: Never.self) { try model().merging([(file, 1)]) }
  }

  @Test func halfAPairIsNamed() throws {
    let url = try write([("unet.conv_in.lora_A.weight", [4, 4, 3, 3])])
    #expect(
      throws: AdapterError.unpaired(
        path: url.path, name: "unet.conv_in.lora_A.weight", missing: "lora_up.weight")
    ) {
      try LoRAFile(url: url)
    }
  }

  /// What is missing of each kind of change, beside what is there.
  @Test(arguments: [
    (["hada_w1_a", "hada_w1_b", "hada_w2_a"], "hada_w2_b"),
    (["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1"], "hada_t2"),
    (["lokr_w1", "lokr_w2_a"], "lokr_w2_b"), (["lokr_w2"], "lokr_w1_a"),
    (["lora_mid.weight", "lora_up.weight"], "lora_down.weight"), (["alpha"], "lora_up.weight"),
    (["dora_scale"], "lora_up.weight"),
  ])
  func aMissingFactorIsNamed(parts: [String], missing: String) throws {
    let url = try write(parts.map { ("lora_unet_conv_in.\($0)", [4, 4]) })
    let error = try #require(throws: AdapterError.self) { try LoRAFile(url: url) }
    #expect("\(error)".contains("'\(missing)'") && "\(error)".contains("lora_unet_conv_in"), "\(error)")
  }

  /// [32, 4, 3, 3] is the layer's weight.
  @Test func factorsThatDoNotFitEachOtherAreNamed() throws {
    let unfitting: [[(String, Shape)]] = [
      [("lora_down.weight", [4, 4, 3, 3]), ("lora_up.weight", [32, 5])],
      [
        ("lora_down.weight", [2, 4, 1, 1]), ("lora_up.weight", [32, 2]), ("lora_mid.weight", [2, 3, 3, 3]),
      ],
      [("lokr_w1", [4, 2, 1]), ("lokr_w2", [8, 2, 3, 3])],
      [
        ("hada_w1_a", [32, 2]), ("hada_w1_b", [2, 36]), ("hada_w2_a", [32, 2]), ("hada_w2_b", [2, 35]),
      ],
    ]
    for parts in unfitting {
      let url = try write(parts.map { ("lora_unet_conv_in.\($0.0)", $0.1) })
      let error = try #require(throws: AdapterError.self) { try LoRAFile(url: url) }
      guard case .factors(_, let factors) = error else {
        Issue.record("\(error)")
        continue
      }
      #expect(factors.count >= 2 || parts[0].0 == "lokr_w1")
      #expect("\(error)".contains("lora_unet_conv_in.\(parts[0].0)"), "\(error)")
    }
  }

  @Test func changesOfAnotherShapeNameTheLayer() throws {
    let fitting: [[(String, Shape)]] = [
      [
        ("lora_down.weight", [2, 4, 1, 1]), ("lora_up.weight", [32, 2, 1, 1]),
        ("lora_mid.weight", [2, 2, 3, 3]),
      ],
      [("lokr_w1", [4, 2]), ("lokr_w2", [8, 2, 3, 3])],
      [("hada_w1_a", [32, 2]), ("hada_w1_b", [2, 36]), ("hada_w2_a", [32, 2]), ("hada_w2_b", [2, 36])],
      [("lora_down.weight", [2, 4, 3, 3]), ("lora_up.weight", [32, 2]), ("dora_scale", [1, 4, 1, 1])],
      [("lora_down.weight", [2, 4, 3, 3]), ("lora_up.weight", [32, 2]), ("dora_scale", [32, 1, 1, 1])],
    ]
    let unfitting: [[(String, Shape)]] = [
      [
        ("lora_down.weight", [2, 4, 1, 1]), ("lora_up.weight", [32, 2, 1, 1]),
        ("lora_mid.weight", [2, 2, 5, 5]),
      ],
      [("lokr_w1", [4, 2]), ("lokr_w2", [4, 4, 3, 3])],
      [("hada_w1_a", [32, 2]), ("hada_w1_b", [2, 35]), ("hada_w2_a", [32, 2]), ("hada_w2_b", [2, 35])],
      [("lora_down.weight", [2, 4, 3, 3]), ("lora_up.weight", [32, 2]), ("dora_scale", [1, 8, 1, 1])],
      [("lora_down.weight", [2, 4, 3, 3]), ("lora_up.weight", [32, 2]), ("dora_scale", [31, 1])],
    ]
    for (isFitting, parts) in fitting.map({ (true, $0) }) + unfitting.map({ (false, $0) }) {
      let file = try LoRAFile(url: write(parts.map { ("lora_unet_conv_in.\($0.0)", $0.1) }))
      if isFitting {
        #expect(throws: Never.self) { try model().merging([(file, 1)]) }
      } else {
        let error = try #require(throws: AdapterError.self) { try model().merging([(file, 1)]) }
        #expect("\(error)".contains("layer unet.conv_in"), "\(error)")
      }
    }
  }

  @Test func kindsOfChangesAreNotMixedWithinALayer() throws {
    let url = try write([
      ("lora_unet_conv_in.lora_down.weight", [4, 4, 3, 3]), ("lora_unet_conv_in.lokr_w1", [4, 4]),
    ])
    let error = try #require(throws: CheckpointError.self) { try LoRAFile(url: url) }
    #expect("\(error)".contains("LoKr and LoRA"), "\(error)")
    let twice = try write([
      ("lora_unet_conv_in.lokr_w1", [4, 2]), ("lora_unet_conv_in.lokr_w1_a", [4, 1]),
      ("lora_unet_conv_in.lokr_w2", [8, 2, 3, 3]),
    ])
    let other = try #require(throws: CheckpointError.self) { try LoRAFile(url: twice) }
    #expect("\(other)".contains("'lora_unet_conv_in.lokr_w1_a' has no use"), "\(other)")
  }

  @Test(arguments: [
    ("unet.conv_in.lora_B.bias", "biases"), ("lora_unet_conv_in.oft_blocks", "OFT"),
    ("lora_unet_conv_in.diff", "difference"), ("lora_unet_conv_in.a1.weight", "GLoRA"),
  ])
  func otherKindsOfChangesAreRefusedByName(key: String, kind: String) throws {
    let url = try write([("unet.conv_in.lora_A.weight", [4, 4, 3, 3]), (key, [4])])
    let error = try #require(throws: CheckpointError.self) { try LoRAFile(url: url) }
    #expect("\(error)".contains(kind) && "\(error)".contains(key), "\(error)")
  }

  /// Where no factor is of low rank, LyCORIS' alpha means nothing, and PEFT's is divided by the rank of its
  /// settings.
  @Test func wholeFactorsHaveTheScaleOne() throws {
    let url = try write([
      ("lora_unet_conv_in.lokr_w1", [4, 2]), ("lora_unet_conv_in.lokr_w2", [8, 2, 3, 3]),
      ("lora_unet_conv_in.alpha", []),
    ])
    #expect(try LoRAFile(url: url).changes.map(\.scale) == [1])
    let peft = try LoRAFile(url: fixtures.appendingPathComponent("lycoris/peft-lokr"))
    #expect(peft.changes.allSatisfy { $0.rank == nil && $0.scale == 1.5 })
  }

  /// Of a network in blocks only what is no product of small matrices makes numbers of what it changes.
  @Test func weightsStayInBlocksBesideALoRA() throws {
    let layer = "lora_unet_conv_in."
    let lora = try LoRAFile(
      url: write([(layer + "lora_down.weight", [4, 4, 3, 3]), (layer + "lora_up.weight", [32, 4])]))
    let loha = try LoRAFile(
      url: write(
        ["hada_w1_a", "hada_w2_a"].map { (layer + $0, [32, 2]) }
          + ["hada_w1_b", "hada_w2_b"].map { (layer + $0, [2, 36]) }))
    let blocked = Blocked(try model().unet.weights)
    func merged(_ files: LoRAFile...) throws -> MergedWeights {
      try MergedWeights(blocked, ["conv_in.weight": files.flatMap(\.changes).map { ($0, 1) }])
    }
    let beside = try merged(lora)
    #expect(beside.encoding(of: "conv_in.weight") == .q8 && beside.dense.isEmpty)
    #expect(
      Set(beside.names).subtracting(blocked.names) == ["conv_in.lora_A.weight", "conv_in.lora_B.weight"])
    #expect(beside.spec(of: "conv_in.lora_A.weight") == TensorSpec([4, 4, 3, 3]))
    #expect(try beside.load("conv_in.lora_B.weight", on: cpu).spec == TensorSpec([32, 4]))
    // Two are one of their ranks' sum.
    let both = try merged(lora, lora)
    #expect(both.spec(of: "conv_in.lora_B.weight") == TensorSpec([32, 8]))
    #expect(try both.load("conv_in.lora_A.weight", on: cpu).spec == TensorSpec([8, 4, 3, 3]))
    for changed in [try merged(loha), try merged(lora, loha)] {
      #expect(changed.encoding(of: "conv_in.weight") == nil && changed.encoding(of: "conv_out.weight") == .q8)
      #expect(try changed.load("conv_in.weight", on: cpu).dtype == .float32)
      #expect(changed.dense.map(\.name) == ["conv_in.weight"] && changed.names == blocked.names)
    }
    let table = ExtendedTable(Blocked(try model().textEncoder.weights), adding: [])
    let name = try #require(ExtendedTable.tableName(in: table))
    #expect(table.encoding(of: name) == nil)
    #expect(table.names.contains { table.encoding(of: $0) == .q8 })
  }

  /// Says of everything that it is in blocks.
  private final class Blocked: WeightSource {
    let base: any WeightSource

    init(_ base: any WeightSource) { self.base = base }

    var names: [String] { base.names }
    var description: String { base.description }
    func spec(of name: String) -> TensorSpec? { base.spec(of: name) }
    func encoding(of name: String) -> BlockEncoding? { .q8 }
    func load(_ name: String, on device: Device) throws -> Tensor { try base.load(name, on: device) }
  }

  @Test func onlyLoRAHasLayersToWriteAgain() throws {
    let url = fixtures.appendingPathComponent("lycoris/loha.safetensors")
    let error = try #require(throws: CheckpointError.self) {
      try LoRAFile(url: url).layers(of: model(), on: cpu)
    }
    #expect("\(error)".contains("LoHa at "), "\(error)")
  }

  @Test func aFileThatIsNoLoRAIsRefused() throws {
    let url = fixtures.appendingPathComponent("tiny-sd/unet/diffusion_pytorch_model.safetensors")
    let error = try #require(throws: CheckpointError.self) { try LoRAFile(url: url) }
    #expect("\(error)".contains("belong to no part"), "\(error)")
    let checkpoint = fixtures.appendingPathComponent("tiny-sd.safetensors")
    let other = try #require(throws: CheckpointError.self) { try LoRAFile(url: checkpoint) }
    #expect("\(other)".contains("belong to no part"), "\(other)")
    #expect(throws: CheckpointError.missingFile(path: "/no/such.safetensors")) {
      try LoRAFile(url: URL(fileURLWithPath: "/no/such.safetensors"))
    }
    let broken = try write(
      [("unet.conv_in.lora_A.weight", [4, 4, 3, 3]), ("unet.conv_in.lora_B.weight", [32, 4, 1, 1])],
      metadata: [LoRAMetadata.key: "{\"unet.lora_alpha\": \"many\"}"])
    #expect(throws: CheckpointError.self) { try LoRAFile(url: broken) }
  }

  @Test func aFolderIsItsFile() throws {
    #expect(try LoRAFile(url: fixtures.appendingPathComponent("lora")).changes.count == 32)
  }
}

/// `<lora:NAME:SCALE>` in prompts.
@Suite struct LoRATagTests {
  @Test(arguments: [
    ("a fox", "a fox", []), ("a fox <lora:ink:0.8>", "a fox ", [LoRATag(name: "ink", scale: 0.8)]),
    ("<lora:a b.c><lyco:d: -1 >x", "x", [LoRATag(name: "a b.c"), LoRATag(name: "d", scale: -1)]),
    ("1 < 2 <b> <lora:e:.5> > 3", "1 < 2 <b>  > 3", [LoRATag(name: "e", scale: 0.5)]),
    ("<s> <lora:never closed", "<s> <lora:never closed", []), ("<<lora:f:1>>", "<>", [LoRATag(name: "f")]),
  ])
  func tagsAreTakenOutOfAPrompt(prompt: String, text: String, tags: [LoRATag]) throws {
    let read = try LoRATag.read(prompt)
    #expect(read.text == text && read.tags == tags)
  }

  @Test(arguments: ["<lora:a:1:0.5>", "<lora:>", "<lora::1>", "<lora:a:strong>", "<lora:a:nan>", "<lora:a:>"])
  func otherTagsAreNamed(tag: String) throws {
    let error = try #require(throws: GenerationError.self) { try LoRATag.read("a fox \(tag), ink") }
    #expect("\(error)".contains("'\(tag)'"), "\(error)")
  }

  @Test func filesAreFoundByNameInAFolderAndWhatIsInIt() throws {
    let temporary = try TemporaryFolder()
    let folder = temporary.url.appendingPathComponent("loras")
    let inner = folder.appendingPathComponent("inner")
    try FileManager.default.createDirectory(at: inner, withIntermediateDirectories: true)
    for (place, name) in [(folder, "ink"), (inner, "fox"), (folder, "twice"), (inner, "twice")] {
      try Data().write(to: place.appendingPathComponent("\(name).safetensors"))
    }
    try Data().write(to: temporary.url.appendingPathComponent("outside.safetensors"))
    #expect(try LoRATag(name: "ink").file(in: folder).lastPathComponent == "ink.safetensors")
    #expect(try LoRATag(name: "fox").file(in: folder).path.hasSuffix("inner/fox.safetensors"))
    for (name, words) in [
      ("twice", "inner/twice"), ("inc", "did you mean 'ink'?"), ("../outside", "it has no"),
    ] {
      let error = try #require(throws: AdapterError.self) { try LoRATag(name: name).file(in: folder) }
      #expect("\(error)".contains(words), "\(error)")
    }
    #expect(throws: CheckpointError.missingFile(path: "/no/such")) {
      try LoRATag(name: "ink").file(in: URL(fileURLWithPath: "/no/such"))
    }
  }
}
