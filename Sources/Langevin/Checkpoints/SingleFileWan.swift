import LangevinModels

/// WAN's transformer under the names of its authors: `blocks.0.self_attn.q.weight`.
struct SingleFileWan: AuthorsLayout {
  static let title = "WAN's"
  static let key = "head.modulation"
  static let diffusersName = "condition_embedder.time_proj.weight"

  let config: WanTransformer3DConfig

  init(_ config: WanTransformer3DConfig) { self.config = config }

  private var hasImage: Bool { config.imageChannels != nil }

  var table: PlaceTable {
    var table = PlaceTable()
    let patch = config.patch
    // ggml's tensors have four axes at most: stable-diffusion.cpp writes these five as four, in the same order.
    table.tensor(
      "patch_embedding.weight", "patch_embedding.weight",
      [config.channels, config.inChannels, patch.frames, patch.height, patch.width])
    table.tensor("patch_embedding.bias", "patch_embedding.bias")
    for part in ["time", "text"] {
      table.layer("condition_embedder.\(part)_embedder.linear_1", "\(part)_embedding.0")
      table.layer("condition_embedder.\(part)_embedder.linear_2", "\(part)_embedding.2")
    }
    table.layer("condition_embedder.time_proj", "time_projection.1")
    if hasImage {
      for (name, key) in [("norm1", 0), ("ff.net.0.proj", 1), ("ff.net.2", 3), ("norm2", 4)] {
        table.layer("condition_embedder.image_embedder.\(name)", "img_emb.proj.\(key)")
      }
    }
    for index in 0..<config.layerCount { add("blocks.\(index)", to: &table) }
    table.tensor("scale_shift_table", "head.modulation")
    table.layer("proj_out", "head.head")
    return table
  }

  private func add(_ block: String, to table: inout PlaceTable) {
    table.tensor("\(block).scale_shift_table", "\(block).modulation")
    for (attention, key) in [("attn1", "self_attn"), ("attn2", "cross_attn")] {
      let (name, key) = ("\(block).\(attention)", "\(block).\(key)")
      for part in ["q", "k", "v"] { table.layer("\(name).to_\(part)", "\(key).\(part)") }
      table.layer("\(name).to_out.0", "\(key).o")
      for norm in ["norm_q", "norm_k"] { table.tensor("\(name).\(norm).weight", "\(key).\(norm).weight") }
    }
    if hasImage {
      for part in ["k", "v"] {
        table.layer("\(block).attn2.add_\(part)_proj", "\(block).cross_attn.\(part)_img")
      }
      table.tensor("\(block).attn2.norm_added_k.weight", "\(block).cross_attn.norm_k_img.weight")
    }
    // diffusers numbers the norms in the order in which they are called.
    if config.normalizesCrossAttention { table.layer("\(block).norm2", "\(block).norm3") }
    table.layer("\(block).ffn.net.0.proj", "\(block).ffn.0")
    table.layer("\(block).ffn.net.2", "\(block).ffn.2")
  }

  var summary: String {
    Self.summary(
      config.layerCount, channels: config.channels, inner: config.feedForwardChannels,
      inputs: config.inChannels)
  }

  func summary(of file: any TensorFile, prefix: String) throws -> String {
    func extent(_ key: String) throws -> Int { try file.requiredShape(of: prefix + key)[0] }
    let channels = try extent("patch_embedding.bias")
    let numbers = try file.requiredShape(of: prefix + "patch_embedding.weight").count
    return Self.summary(
      file.count { "\(prefix)blocks.\($0).modulation" }, channels: channels,
      inner: try extent("blocks.0.ffn.0.bias"),
      inputs: numbers / max(config.patch.count * channels, 1))
  }

  private static func summary(_ blocks: Int, channels: Int, inner: Int, inputs: Int) -> String {
    "\(blocks) blocks of \(channels) channels, \(inner) inside a perceptron, and \(inputs) input channels"
  }
}
