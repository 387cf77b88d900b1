import LangevinJSON
import LangevinTensor

/// A text encoder of a single-file checkpoint: OpenAI's CLIP in Stable Diffusion 1.x, OpenCLIP in 2.x, both in XL.
struct SingleFileText {
  enum Family: Sendable, Equatable {
    /// Keys as transformers names them, behind this prefix.
    case clip(prefix: String)
    /// Keys as OpenCLIP names them behind this prefix, query, key and value in one tensor. Where it `isProjected`,
    /// every layer is run and the pooled text goes through a projection.
    case openCLIP(prefix: String, isProjected: Bool)

    var isOpenCLIP: Bool { if case .openCLIP = self { true } else { false } }
  }

  private static let openCLIPPrefix = "cond_stage_model.model."
  private static let secondPrefix = "conditioner.embedders.1.model."

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
    func isOpenCLIP(_ prefix: String) -> Bool { file.shape(of: prefix + "token_embedding.weight") != nil }
    let first = "conditioner.embedders.0.transformer.text_model."
    if file.shape(of: first + "embeddings.token_embedding.weight") != nil, isOpenCLIP(secondPrefix) {
      return [.clip(prefix: first), .openCLIP(prefix: secondPrefix, isProjected: true)]
    }
    // The second without `text_model.` is how older versions of transformers named it.
    for prefix in ["cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."]
    where file.shape(of: prefix + "embeddings.token_embedding.weight") != nil {
      return [.clip(prefix: prefix)]
    }
    return isOpenCLIP(openCLIPPrefix) ? [.openCLIP(prefix: openCLIPPrefix, isProjected: false)] : []
  }

  /// Throws `CheckpointError.missingTensor`, `.malformed`.
  init(_ file: any TensorFile, family: Family) throws {
    self.family = family
    let keys =
      switch family {
      case .clip(let prefix):
        (
          tokens: prefix + "embeddings.token_embedding.weight",
          positions: prefix + "embeddings.position_embedding.weight", layer: prefix + "encoder.layers.",
          expansion: ".mlp.fc1.weight"
        )
      case .openCLIP(let prefix, _):
        (
          tokens: prefix + "token_embedding.weight", positions: prefix + "positional_embedding",
          layer: prefix + "transformer.resblocks.", expansion: ".mlp.c_fc.weight"
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
    case .clip, .openCLIP(_, isProjected: true): layers = count
    case .openCLIP(let prefix, isProjected: false):
      // Files written from diffusers' weights lack the last layer already, and with it the projection.
      // ViT-H, of 24 layers, is known by its width.
      let isWhole =
        width == 1024 ? count > 23 : file.shape(of: prefix + "text_projection") != nil
      layers = isWhole ? count - 1 : count
    }
    if case .openCLIP(let prefix, isProjected: true) = family {
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
    case .openCLIP(let prefix, let isProjected):
      if isProjected {
        table.append(
          (
            "text_projection.weight",
            RenamedWeights.Place(key: prefix + "text_projection", isTransposed: true)
          ))
      }
      for (name, key) in [
        ("embeddings.token_embedding.weight", "token_embedding.weight"),
        ("embeddings.position_embedding.weight", "positional_embedding"),
      ] {
        table.append((root + name, RenamedWeights.Place(key: prefix + key)))
      }
      add("final_layer_norm", prefix + "ln_final")
      for index in 0..<layers {
        let (layer, block) = ("encoder.layers.\(index).", "\(prefix)transformer.resblocks.\(index).")
        add(layer + "layer_norm1", block + "ln_1")
        add(layer + "layer_norm2", block + "ln_2")
        add(layer + "mlp.fc1", block + "mlp.c_fc")
        add(layer + "mlp.fc2", block + "mlp.c_proj")
        add(layer + "self_attn.out_proj", block + "attn.out_proj")
        for (third, part) in ["q_proj", "k_proj", "v_proj"].enumerated() {
          for kind in ["weight", "bias"] {
            table.append(
              (
                "\(root)\(layer)self_attn.\(part).\(kind)",
                RenamedWeights.Place(key: "\(block)attn.in_proj_\(kind)", third: third)
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
    case .openCLIP(let prefix, let isProjected):
      var keys = Set(["logit_scale", "attn_mask"].map { prefix + $0 })
      if !isProjected { keys.insert(prefix + "text_projection") }
      for index in layers..<layersInFile {
        for part in [
          "ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias",
          "mlp.c_proj.weight", "mlp.c_proj.bias", "attn.in_proj_weight", "attn.in_proj_bias",
          "attn.out_proj.weight", "attn.out_proj.bias",
        ] {
          keys.insert("\(prefix)transformer.resblocks.\(index).\(part)")
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
