import LangevinJSON
import LangevinNN
import LangevinTensor

/// A ControlNet of Stable Diffusion 1.x, 2.x or XL in one file: under the keys of its authors' implementation,
/// `control_model.input_blocks.…` or the same without `control_model.`, or under diffusers' names.
struct SingleFileControlNet {
  /// Under diffusers' names. The configuration has what shapes tell; `ControlNetwork.completed` knows the rest.
  let component: Checkpoint.Component

  /// Throws `CheckpointError.unsupported`, `.malformed`, `.missingTensor`, `.unknownTensors`.
  init(_ file: SafetensorsFile) throws {
    func has(_ key: String) -> Bool { file.shape(of: key) != nil }
    // What the original's keys begin with; nil for diffusers' names.
    let original = ["control_model.", ""].first { has($0 + "input_hint_block.0.weight") }
    guard original != nil || has(Hint.name + ".conv_in.weight"), Self.relative(of: file) == nil else {
      throw CheckpointError.unsupported(
        path: file.url.path, found: Self.relative(of: file) ?? "a file that is no ControlNet",
        supported: ["a ControlNet of Stable Diffusion 1.x, 2.x or XL in one file", "a diffusers folder"])
    }
    let unet =
      if let original {
        try SingleFileUNet(
          file, prefix: original, hasAdded: has(original + "label_emb.0.0.weight"), hasNoWayUp: true)
      } else {
        try SingleFileUNet(wayDownOf: file)
      }
    let hint = try Hint(file, original: original)
    let table =
      unet.table.filter { name, _ in
        !["up_blocks.", "conv_norm_out.", "conv_out."].contains(where: name.hasPrefix)
      } + hint.table + Self.additions(unet)
    let places = table.map { name, key in
      (name: name, place: RenamedWeights.Place(key: original.map { $0 + key } ?? name))
    }
    let used = Set(places.map(\.place.key))
    // Some files have the whole model beside it.
    let unknown = file.names.filter { $0.hasPrefix(original ?? "") && !used.contains($0) }
    guard unknown.isEmpty else {
      throw CheckpointError.unknownTensors(path: file.url.path, names: unknown.sorted())
    }
    component = Checkpoint.Component(
      "ControlNetModel", config: Self.config(unet, hint), weights: try RenamedWeights(places, in: file))
  }

  private static func config(_ unet: SingleFileUNet, _ hint: Hint) -> StrictJSON {
    let heads: StrictJSON = unet.isLinear ? .integers(unet.widths.map { max($0 / 64, 1) }) : .integer(8)
    var members: [StrictJSON.Member] = []
    if case .object(let known) = unet.config(heads: heads, sampleSize: 64, sizeChannels: 256) {
      members = known
    }
    let others = ["_class_name", "norm_num_groups", "out_channels", "up_block_types"]
    return .object(
      members.filter { !others.contains($0.key) } + [
        StrictJSON.Member("_class_name", .string("ControlNetModel")),
        // 32, or the largest power of two that divides narrower levels.
        StrictJSON.Member(
          "norm_num_groups", .integer(1 << unet.widths.map(\.trailingZeroBitCount).reduce(5, min))),
        StrictJSON.Member("conditioning_channels", .integer(hint.channels)),
        StrictJSON.Member("conditioning_embedding_out_channels", .integers(hint.widths)),
      ])
  }

  /// What is known of networks that are used as a ControlNet is and built in another way.
  private static func relative(of file: SafetensorsFile) -> String? {
    func some(_ condition: (String) -> Bool) -> Bool { file.names.contains(where: condition) }
    if some({ $0 == "lora_controlnet" }) { return "a Control-LoRA" }
    if some({ $0.hasPrefix("lllite_") }) { return "a ControlNet-LLLite" }
    if some({ $0 == "task_embedding" || $0.hasPrefix("control_add_embedding.") }) {
      return "a ControlNet-Union"
    }
    if some({ $0.contains("double_blocks.") || $0.hasPrefix("transformer_blocks.") }) {
      return "a ControlNet of a transformer"
    }
    return nil
  }

  /// One convolution for each skip, and one for the middle.
  private static func additions(_ unet: SingleFileUNet) -> [(name: String, key: String)] {
    let count = unet.widths.count * (unet.layersPerBlock + 1)
    let pairs =
      (0..<count).map { ("controlnet_down_blocks.\($0)", "zero_convs.\($0).0") }
      + [("controlnet_mid_block", "middle_block_out.0")]
    return pairs.flatMap { name, key in ["weight", "bias"].map { ("\(name).\($0)", "\(key).\($0)") } }
  }

  /// The convolutions over the picture, at every other place of a list that has the activations too.
  private struct Hint {
    let channels: Int
    /// Each width but the last is that of two convolutions.
    let widths: [Int]
    let table: [(name: String, key: String)]
    /// In diffusers' names.
    static let name = "controlnet_cond_embedding"

    /// `original` is what the original's keys begin with; nil for diffusers' names.
    init(_ file: SafetensorsFile, original: String?) throws {
      func key(_ index: Int) -> String { "input_hint_block.\(2 * index)" }
      let count =
        if let original { file.count { "\(original)\(key($0)).weight" } } else {
          file.count { "\(Self.name).blocks.\($0).weight" } + 2
        }
      let names = (0..<count).map { index in
        "\(Self.name)."
          + (index == 0 ? "conv_in" : index == count - 1 ? "conv_out" : "blocks.\(index - 1)")
      }
      let shapes = try names.indices.map { index in
        try file.requiredShape(of: (original.map { $0 + key(index) } ?? names[index]) + ".weight")
      }
      guard count >= 2, count % 2 == 0, shapes.allSatisfy({ $0.rank == 4 }) else {
        throw CheckpointError.malformed(
          path: file.url.path,
          reason: "\(count) convolutions read its picture, and not an even number of them")
      }
      channels = shapes[0][1]
      widths = stride(from: 0, to: count - 1, by: 2).map { shapes[$0][0] }
      table = names.enumerated().flatMap { index, name in
        ["weight", "bias"].map { ("\(name).\($0)", "\(key(index)).\($0)") }
      }
    }
  }
}

extension SingleFileUNet {
  /// The way down and the middle of a network under diffusers' names.
  ///
  /// Throws `CheckpointError.missingTensor`, `.malformed` and `.unsupported`.
  fileprivate init(wayDownOf file: any TensorFile) throws {
    func shape(_ name: String, rank: Int? = nil) throws -> Shape {
      let shape = try file.requiredShape(of: name)
      guard shape.rank == rank ?? shape.rank else {
        throw CheckpointError.malformed(
          path: file.url.path, reason: "tensor '\(name)' \(shape) has not \(rank ?? 0) axes")
      }
      return shape
    }
    func width(_ level: Int, _ layer: Int) -> String { "down_blocks.\(level).resnets.\(layer).conv1.weight" }
    func depth(_ part: String) -> Int { file.count { "\(part).transformer_blocks.\($0).norm1.weight" } }

    let first = try shape("conv_in.weight", rank: 4)
    (inChannels, outChannels) = (first[1], first[1])
    let levels = max(file.count { width($0, 0) }, 1)
    widths = try (0..<levels).map { try shape(width($0, 0))[0] }
    layersPerBlock = file.count { width(0, $0) }
    depths = (0..<levels).map { depth("down_blocks.\($0).attentions.0") }
    midDepth = depth("mid_block.attentions.0")
    guard midDepth > 0 else {
      throw CheckpointError.unsupported(
        path: file.url.path, found: "a ControlNet without attention in its middle",
        supported: ["those with it", "a diffusers folder"])
    }
    isLinear = try shape("mid_block.attentions.0.proj_in.weight").rank == 2
    let keys = try shape("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", rank: 2)
    contextWidth = keys[1]
    let added = "add_embedding.linear_1.weight"
    addedWidth = file.shape(of: added) == nil ? nil : try shape(added, rank: 2)[1]
  }
}
