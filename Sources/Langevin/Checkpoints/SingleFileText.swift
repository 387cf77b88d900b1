import LangevinJSON
import LangevinTensor

/// A text encoder of a single-file checkpoint: OpenAI's CLIP in Stable Diffusion 1.x, OpenCLIP in 2.x, both
/// in XL.
struct SingleFileText {
  enum Family: Sendable, Equatable {
    /// Keys as transformers names them, behind this prefix.
    case clip(prefix: String)
    /// OpenCLIP's, behind this prefix. Where it `isProjected`, every layer is run and the pooled text goes
    /// through a projection.
    case openCLIP(prefix: String, OpenCLIPKeys, isProjected: Bool)

    var isOpenCLIP: Bool { if case .openCLIP = self { true } else { false } }
  }

  private static let tokens = "embeddings.token_embedding.weight"

  let family: Family
  let vocabulary: Int
  let positions: Int
  let width: Int
  let intermediate: Int
  /// How many layers are run.
  let layers: Int
  /// How many the file has: Stable Diffusion 2 reads the penultimate layer, so the last is not run.
  let layersInFile: Int
  /// Of the pooled text, where the family projects it.
  let projectionWidth: Int?

  /// The encoders that the file has: none where it has them under other names.
  static func families(of file: any TensorFile) -> [Family] {
    func has(_ key: String) -> Bool { file.shape(of: key) != nil }
    /// OpenCLIP's under the keys of transformers, as stable-diffusion.cpp writes it.
    func renamed(_ prefix: String, isProjected: Bool) -> Family {
      let isJoint = has(prefix + "encoder.layers.0.self_attn.in_proj.weight")
      return .openCLIP(prefix: prefix, .transformers(isJoint: isJoint), isProjected: isProjected)
    }
    let first = "conditioner.embedders.0.transformer.text_model."
    let second = "conditioner.embedders.1.model."
    if has(first + tokens), has(second + OpenCLIPKeys.original.tokens) {
      return [.clip(prefix: first), .openCLIP(prefix: second, .original, isProjected: true)]
    }
    let renamedSecond = "cond_stage_model.1.transformer.text_model."
    // The second without `text_model.` is how older versions of transformers named it.
    for prefix in ["cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."]
    where has(prefix + tokens) {
      if has(renamedSecond + tokens) {
        return [.clip(prefix: prefix), renamed(renamedSecond, isProjected: true)]
      }
      // Apart, query, key and value tell no more than how wide they are: 768 OpenAI's, 1024 OpenCLIP's.
      let isOpenCLIP =
        has(prefix + "encoder.layers.0.self_attn.in_proj.weight")
        || file.shape(of: prefix + tokens)?.dimensions.last == 1024
      return [isOpenCLIP ? renamed(prefix, isProjected: false) : .clip(prefix: prefix)]
    }
    let only = "cond_stage_model.model."
    return has(only + OpenCLIPKeys.original.tokens)
      ? [.openCLIP(prefix: only, .original, isProjected: false)] : []
  }

  /// Throws `CheckpointError.missingTensor`, `.malformed`.
  init(_ file: any TensorFile, family: Family) throws {
    self.family = family
    let keys =
      switch family {
      case .clip(let prefix):
        (
          tokens: prefix + Self.tokens, positions: prefix + "embeddings.position_embedding.weight",
          layer: prefix + "encoder.layers.", expansion: ".mlp.fc1.weight"
        )
      case .openCLIP(let prefix, let keys, _):
        (
          tokens: prefix + keys.tokens, positions: prefix + keys.positions, layer: prefix + keys.layers,
          expansion: ".\(keys.expansion).weight"
        )
      }
    let table = try file.requiredShape(of: keys.tokens)
    guard table.rank == 2 else {
      throw CheckpointError.malformed(
        path: file.url.path, reason: "tensor '\(keys.tokens)' \(table) is no table")
    }
    vocabulary = table[0]
    width = table[1]
    positions = try file.requiredShape(of: keys.positions)[0]
    intermediate = try file.requiredShape(of: keys.layer + "0" + keys.expansion)[0]
    var count = 1
    while file.shape(of: "\(keys.layer)\(count)\(keys.expansion)") != nil { count += 1 }
    layersInFile = count
    switch family {
    case .clip, .openCLIP(_, _, isProjected: true): layers = count
    case .openCLIP(let prefix, _, isProjected: false):
      // Files written from diffusers' weights lack the last layer already, and with it the projection.
      // ViT-H, of 24 layers, is known by its width.
      let isWhole =
        width == 1024 ? count > 23 : file.shape(of: prefix + "text_projection") != nil
      layers = isWhole ? count - 1 : count
    }
    if case .openCLIP(let prefix, _, isProjected: true) = family {
      let projection = try file.requiredShape(of: prefix + "text_projection")
      projectionWidth = projection[projection.rank - 1]
    } else {
      projectionWidth = nil
    }
    guard layers > 0 else {
      throw CheckpointError.malformed(path: file.url.path, reason: "its text encoder has one layer")
    }
  }

  /// transformers' name -> where it lies in the file.
  var table: [(name: String, place: RenamedWeights.Place)] {
    var table: [(name: String, place: RenamedWeights.Place)] = []
    let root = "text_model."
    func add(_ name: String, _ key: String) {
      table.append((root + name + ".weight", RenamedWeights.Place(key: key + ".weight")))
      table.append((root + name + ".bias", RenamedWeights.Place(key: key + ".bias")))
    }
    switch family {
    case .clip(let prefix):
      for name in ["embeddings.token_embedding.weight", "embeddings.position_embedding.weight"] {
        table.append((root + name, RenamedWeights.Place(key: prefix + name)))
      }
      add("final_layer_norm", prefix + "final_layer_norm")
      for layer in (0..<layers).map({ "encoder.layers.\($0)." }) {
        for part in [
          "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", "self_attn.q_proj", "self_attn.k_proj",
          "self_attn.v_proj", "self_attn.out_proj",
        ] {
          add(layer + part, prefix + layer + part)
        }
      }
    case .openCLIP(let prefix, let keys, let isProjected):
      if isProjected {
        table.append(
          (
            "text_projection.weight",
            RenamedWeights.Place(key: prefix + "text_projection", isTransposed: true)
          ))
      }
      for (name, key) in [
        (Self.tokens, keys.tokens), ("embeddings.position_embedding.weight", keys.positions),
      ] {
        table.append((root + name, RenamedWeights.Place(key: prefix + key)))
      }
      add("final_layer_norm", prefix + keys.norm)
      for index in 0..<layers {
        let (layer, block) = ("encoder.layers.\(index).", "\(prefix)\(keys.layers)\(index).")
        for (part, key) in keys.parts { add(layer + part, block + key) }
        guard let joint = keys.joint else { continue }
        for (third, part) in OpenCLIPKeys.thirds.enumerated() {
          for kind in ["weight", "bias"] {
            table.append(
              (
                "\(root)\(layer)\(part).\(kind)",
                RenamedWeights.Place(key: block + joint + kind, part: .third(third))
              ))
          }
        }
      }
    }
    return table
  }

  /// Keys that belong to the text encoder and that nothing reads.
  var spare: Set<String> {
    switch family {
    case .clip(let prefix):
      return [
        prefix + "embeddings.position_ids", "cond_stage_model.logit_scale",
        "cond_stage_model.transformer.text_projection.weight",
      ]
    case .openCLIP(let prefix, let names, let isProjected):
      var keys = Set(["logit_scale", "attn_mask", "embeddings.position_ids"].map { prefix + $0 })
      // What stable-diffusion.cpp has no other name for keeps the original's.
      for original in ["cond_stage_model.model.", "cond_stage_model.1.model."] {
        keys.formUnion(["logit_scale", "attn_mask"].map { original + $0 })
      }
      if !isProjected { keys.insert(prefix + "text_projection") }
      for index in layers..<layersInFile {
        let block = "\(prefix)\(names.layers)\(index)."
        for kind in ["weight", "bias"] {
          keys.formUnion(names.parts.map { "\(block)\($0.key).\(kind)" })
          if let joint = names.joint { keys.insert(block + joint + kind) }
        }
      }
      return keys
    }
  }

  /// The class of transformers.
  var className: String { projectionWidth == nil ? "CLIPTextModel" : "CLIPTextModelWithProjection" }

  /// Both families have heads of 64; narrower encoders have one.
  func config() -> StrictJSON {
    let projection = projectionWidth.map { [StrictJSON.Member("projection_dim", .integer($0))] } ?? []
    return .object(
      [
        StrictJSON.Member("architectures", .strings([className])),
        StrictJSON.Member("bos_token_id", .integer(vocabulary - 2)),
        StrictJSON.Member("eos_token_id", .integer(vocabulary - 1)),
        StrictJSON.Member("hidden_act", .string(family.isOpenCLIP ? "gelu" : "quick_gelu")),
        StrictJSON.Member("hidden_size", .integer(width)),
        StrictJSON.Member("intermediate_size", .integer(intermediate)),
        StrictJSON.Member("layer_norm_eps", .real(1e-5)),
        StrictJSON.Member("max_position_embeddings", .integer(positions)),
        StrictJSON.Member("model_type", .string("clip_text_model")),
        StrictJSON.Member("num_attention_heads", .integer(max(1, width / 64))),
        StrictJSON.Member("num_hidden_layers", .integer(layers)),
        StrictJSON.Member("vocab_size", .integer(vocabulary)),
      ] + projection)
  }
}

/// How a file names the parts of an OpenCLIP text encoder.
struct OpenCLIPKeys: Sendable, Equatable {
  let tokens, positions, norm, layers: String
  /// A layer's, by transformers' names of them.
  private let names: [String: String]
  /// Query, key and value in one, `weight` or `bias` behind; nil where they are apart.
  let joint: String?

  static let thirds = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
  private static let common = [
    "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", "self_attn.out_proj",
  ]

  /// In a fixed order.
  var parts: [(name: String, key: String)] { names.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }
  /// The layer that widens.
  var expansion: String { names["mlp.fc1"] ?? "" }

  /// OpenCLIP's own.
  static let original = OpenCLIPKeys(
    tokens: "token_embedding.weight", positions: "positional_embedding", norm: "ln_final",
    layers: "transformer.resblocks.",
    names: Dictionary(
      uniqueKeysWithValues: zip(common, ["ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj", "attn.out_proj"])),
    joint: "attn.in_proj_")

  /// transformers', as stable-diffusion.cpp renames them; older versions of it take query, key and value
  /// apart.
  static func transformers(isJoint: Bool) -> OpenCLIPKeys {
    let parts = isJoint ? common : common + thirds
    return OpenCLIPKeys(
      tokens: "embeddings.token_embedding.weight", positions: "embeddings.position_embedding.weight",
      norm: "final_layer_norm", layers: "encoder.layers.",
      names: Dictionary(uniqueKeysWithValues: zip(parts, parts)),
      joint: isJoint ? "self_attn.in_proj." : nil)
  }
}
