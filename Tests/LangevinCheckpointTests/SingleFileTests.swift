import Foundation
import LangevinCPU
import LangevinJSON
import LangevinModels
import LangevinTensor
import Testing

@testable import Langevin

/// One tensor of a single file, as `make_single_file.py` recorded diffusers' conversion of it.
private struct Row {
  let key: String
  let shape: [Int]
  let part: String
  /// Three where query, key and value are fused, none where nothing reads the tensor.
  let names: [String]
}

private let folder = fixtures.appendingPathComponent("single-file")

/// Names that begin with `cpp-` are of files as stable-diffusion.cpp writes them, with `split-` as its older
/// versions did.
private func table(_ layout: String) throws -> [Row] {
  let name = base(layout)
  let rows = try rows(name)
  return name == layout ? rows : rows.flatMap { renamed($0, isSplit: layout.hasPrefix("split-")) }
}

private func base(_ layout: String) -> String {
  layout.split(separator: "-").last.map(String.init) ?? layout
}

/// A tensor under the name that stable-diffusion.cpp gives it (its name_conversion.cpp), in thirds where
/// `isSplit`.
private func renamed(_ row: Row, isSplit: Bool) -> [Row] {
  let prefixes = [
    ("conditioner.embedders.0.", "cond_stage_model."), ("conditioner.embedders.1.", "cond_stage_model.1."),
  ]
  var key = row.key
  for (old, new) in prefixes where key.hasPrefix(old) { key = new + key.dropFirst(old.count) }
  guard let root = ["cond_stage_model.model.", "cond_stage_model.1.model."].first(where: key.hasPrefix),
    !key.hasSuffix("logit_scale")
  else { return [Row(key: key, shape: row.shape, part: row.part, names: row.names)] }
  key = root.replacing(".model.", with: ".transformer.text_model.") + key.dropFirst(root.count)
  for (old, new) in [
    ("transformer.resblocks.", "encoder.layers."), ("attn.in_proj_", "self_attn.in_proj."),
    (".attn.out_proj", ".self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"), ("ln_final", "final_layer_norm"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    (".token_embedding", ".embeddings.token_embedding"),
  ] {
    key = key.replacing(old, with: new)
  }
  guard isSplit, key.contains("in_proj") else {
    return [Row(key: key, shape: row.shape, part: row.part, names: row.names)]
  }
  return ["q", "k", "v"].enumerated().map { index, letter in
    Row(
      key: key.replacing("in_proj", with: "\(letter)_proj"),
      shape: [row.shape[0] / 3] + row.shape.dropFirst(),
      part: row.part, names: row.names.isEmpty ? [] : [row.names[index]])
  }
}

private func rows(_ layout: String) throws -> [Row] {
  let text = try String(contentsOf: folder.appendingPathComponent("\(layout).tsv"), encoding: .utf8)
  return text.split(separator: "\n").map { line in
    let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
    return Row(
      key: fields[0], shape: fields[1].split(separator: ",").compactMap { Int($0) }, part: fields[2],
      names: fields[3] == "-" ? [] : fields[3].split(separator: " ").map(String.init))
  }
}

/// Writes these tensors as float32 zeros, in a file without blocks where the system can.
private func sparse(_ rows: [Row], _ temporary: TemporaryFolder, _ name: String = "model.safetensors") throws
  -> URL
{
  let tensors = rows.map { row in
    let isInteger = row.key.hasSuffix("position_ids")
    let bytes = row.shape.reduce(1, *) * (isInteger ? 8 : 4)
    return (name: row.key, dtype: isInteger ? ElementType.i64 : .f32, shape: row.shape, byteCount: bytes)
  }
  let header = try SafetensorsWriter.header(tensors, metadata: [:], path: name)
  let url = try temporary.write(header, name)
  let file = try FileHandle(forUpdating: url)
  try file.truncate(atOffset: UInt64(header.count + tensors.reduce(0) { $0 + $1.byteCount }))
  try file.close()
  return url
}

private func component(_ checkpoint: Checkpoint, _ part: String) throws -> Checkpoint.Component {
  try checkpoint.component(["text": "text_encoder", "text2": "text_encoder_2"][part] ?? part)
}

private let layouts = [
  "sd1.5", "sd2.1", "sdxl", "small1", "small2", "smallxl", "cpp-sd2.1", "cpp-sdxl", "cpp-small2",
  "cpp-smallxl",
  "split-sd2.1", "split-sdxl", "split-smallxl",
]

/// The second text encoder is Stable Diffusion XL's.
private func parts(_ layout: String) -> [String] {
  ["unet", "vae", "text"] + (layout.hasSuffix("xl") ? ["text2"] : [])
}

@Suite struct SingleFileTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  @Test(arguments: layouts) func namesAreDiffusers(_ layout: String) throws {
    let rows = try table(layout)
    let file = try SingleFileCheckpoint(url: sparse(rows, temporary))
    let family: SingleFileCheckpoint.Family =
      layout.hasSuffix("xl")
      ? .stableDiffusionXL : layout == "sd1.5" || layout == "small1" ? .stableDiffusion1 : .stableDiffusion2
    #expect(file.family == family)
    for part in parts(layout) {
      let weights = try component(file.checkpoint, part).weights
      let expected = rows.filter { $0.part == part }
      #expect(Set(weights.names) == Set(expected.flatMap(\.names)))
      #expect(weights.names.count == expected.reduce(0) { $0 + $1.names.count })
      for row in expected {
        for name in row.names {
          var shape = row.shape
          if row.names.count == 3 { shape[0] /= 3 }
          if name == "text_projection.weight" { shape.reverse() }
          if part == "vae", name.contains("attentions"), shape.count == 4 { shape.removeLast(2) }
          #expect(weights.spec(of: name) == TensorSpec(Shape(shape)), "\(name)")
        }
      }
    }
    #expect(Set(file.spare) == Set(rows.filter { $0.part == "-" }.map(\.key)))
  }

  /// Every value in our configurations is the one in diffusers'.
  @Test(arguments: layouts) func configurationsAreDiffusers(_ layout: String)
    throws
  {
    let checkpoint = try SingleFileCheckpoint(url: sparse(try table(layout), temporary)).checkpoint
    let golden = try JSONFile.read(folder.appendingPathComponent("\(base(layout)).json"))
    for part in parts(layout) {
      guard case .object(let members) = try component(checkpoint, part).config else {
        Issue.record("\(part): no object")
        continue
      }
      #expect(members.count > 10)
      for member in members where !["_class_name", "architectures"].contains(member.key) {
        let expected = try #require(golden[part]?[member.key], "\(part) \(member.key)")
        if case .number(let ours) = member.value, case .number(let theirs) = expected {
          #expect(Double(ours) == Double(theirs), "\(part) \(member.key)")
        } else {
          #expect(member.value == expected, "\(part) \(member.key)")
        }
      }
    }
  }

  /// Each tensor holds other numbers, so that a value says from where it was read.
  @Test(arguments: ["small1", "small2", "smallxl", "cpp-small2", "cpp-smallxl", "split-smallxl"])
  func valuesComeFromTheirTensors(_ layout: String) throws {
    let rows = try table(layout)
    let url = temporary.url.appendingPathComponent("values.safetensors")
    var tensors: [(name: String, tensor: Tensor)] = []
    for (number, row) in rows.enumerated() {
      let values = (0..<row.shape.reduce(1, *)).map { Float(number) + Float($0) / 1_048_576 }
      tensors.append((row.key, try Tensor(values, Shape(row.shape), on: host)))
    }
    try SafetensorsWriter.write(tensors, to: url)
    let checkpoint = try SingleFileCheckpoint(url: url).checkpoint
    // A device that computes: one of Stable Diffusion XL's tensors is transposed.
    let cpu = Device(CPUBackend())
    for (row, source) in zip(rows, tensors) {
      let whole = try source.tensor.floats()
      for (third, name) in row.names.enumerated() {
        var got = try component(checkpoint, row.part).weights.load(name, on: cpu)
        if name == "text_projection.weight" { got = try got.transposed([1, 0]) }
        let count = whole.count / row.names.count
        #expect(try got.floats() == Array(whole[third * count..<(third + 1) * count]), "\(name)")
      }
    }
    let weights = try checkpoint.unet.weights
    #expect(throws: CheckpointError.missingTensor(path: url.path, name: "none")) {
      try weights.load("none", on: host)
    }
  }

  @Test func stableDiffusionXL() throws {
    let checkpoint = try Checkpoint.open(sparse(try table("smallxl"), temporary))
    #expect(checkpoint.pipeline == "StableDiffusionXLPipeline")
    #expect(checkpoint.index["force_zeros_for_empty_prompt"] == .bool(true))
    #expect(try checkpoint.tokenizer(named: "tokenizer") == .clip(padding: "<|endoftext|>"))
    #expect(try checkpoint.tokenizer(named: "tokenizer_2") == .clip(padding: "!"))
    #expect(try checkpoint.component("text_encoder_2").className == "CLIPTextModelWithProjection")
    let config = try UNet2DConditionConfig(checkpoint.component("unet").configuration)
    #expect(config.textTime == UNetTextTimeSize(timeIDChannels: 8, inputs: 88))
    #expect(config.transformerLayers == [[1], [1], [2]] && config.headCounts == [1, 1, 2])

    let wide = try table("smallxl").map {
      $0.key.hasSuffix("label_emb.0.0.weight")
        ? Row(key: $0.key, shape: [$0.shape[0], 39], part: $0.part, names: $0.names) : $0
    }
    let error = #expect(throws: CheckpointError.self) {
      try Checkpoint.open(sparse(wide, temporary, "wide.safetensors"))
    }
    #expect(error?.description.contains("39 wide") == true)
  }

  @Test func prediction() throws {
    func predicted(_ layout: String, _ prediction: String?, steps: Int64? = nil) throws -> String? {
      let rows = try table(layout)
      var url = try sparse(rows, temporary)
      if let steps {
        let file = try SafetensorsFile(url: url)
        let header = try SafetensorsWriter.header(
          rows.map { ($0.key, .f32, $0.shape, $0.shape.reduce(1, *) * 4) } + [("global_step", .i64, [], 8)],
          metadata: [:], path: "")
        let zeros = file.names.reduce(0) { $0 + (file.shape(of: $1)?.count ?? 0) * 4 }
        let value = (0..<8).map { UInt8(truncatingIfNeeded: steps >> (8 * $0)) }
        url = try temporary.write(header + [UInt8](repeating: 0, count: zeros) + value, "steps.safetensors")
      }
      let checkpoint = try Checkpoint.open(url, prediction: prediction)
      return try StrictJSON(parsing: [UInt8](checkpoint.scheduler))["prediction_type"]?.string
    }
    #expect(try predicted("small1", nil) == "epsilon")
    #expect(try predicted("small1", "v_prediction") == "v_prediction")
    #expect(try predicted("small2", nil) == "v_prediction")
    #expect(try predicted("small2", "epsilon") == "epsilon")
    #expect(try predicted("small2", nil, steps: 875_000) == "epsilon")
    #expect(try predicted("small2", nil, steps: 110_000) == "v_prediction")
    let error = #expect(throws: CheckpointError.self) { try predicted("small2", "flow") }
    #expect(error?.description.contains("'flow'") == true)
  }

  @Test func inpaintingIsKnownByTheFirstConvolution() throws {
    let first = "model.diffusion_model.input_blocks.0.0.weight"
    let rows = try table("small1").map {
      $0.key == first ? Row(key: first, shape: [32, 9, 3, 3], part: $0.part, names: $0.names) : $0
    }
    let checkpoint = try Checkpoint.open(sparse(rows, temporary))
    let pipeline = try StableDiffusion(checkpoint, on: Device(CPUBackend()))
    #expect(pipeline.unet.config.inChannels == 9 && pipeline.unet.input == .inpainting)
  }

  @Test func refusals() throws {
    func refusal(_ change: (inout [Row]) -> Void) throws -> String {
      var rows = try table("small1")
      change(&rows)
      let url = try sparse(rows, temporary)
      let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(url) }
      #expect(error?.description.contains("\n") == false)
      return error?.description ?? ""
    }
    func row(_ key: String, _ shape: [Int] = [4]) -> Row { Row(key: key, shape: shape, part: "-", names: []) }
    let missing = "model.diffusion_model.output_blocks.0.0.in_layers.0.weight"
    #expect(try refusal { $0.removeAll { $0.key == missing } }.contains("no tensor '\(missing)'"))
    #expect(
      try refusal { $0.append(row("model.diffusion_model.label_emb.0.0.weight")) }.contains(
        "label_emb.0.0.weight"))
    // Not by prefix: an extra layer is not taken for the schedule or an average.
    #expect(try refusal { $0.append(row("betas2")) }.contains("betas2"))
    #expect(
      try refusal { $0 = [row("conditioner.embedders.0.model.logit_scale")] }.contains("Stable Diffusion XL"))
    #expect(try refusal { $0 = [row("lora_unet_down.alpha")] }.contains("LoRA"))
    #expect(try refusal { $0 = [row("some.weight")] }.contains("'some.weight'"))
    #expect(try refusal { $0 = [] }.contains("without tensors"))
    let first = "model.diffusion_model.input_blocks.0.0.weight"
    #expect(
      try refusal { rows in
        rows = rows.map {
          $0.key == first ? Row(key: first, shape: [32, 8, 3, 3], part: "-", names: []) : $0
        }
      }.contains("instruct-pix2pix"))
  }
}
