import LangevinModels

/// Stable Diffusion 3's transformer under the names of its authors: `joint_blocks.0.x_block.attn.qkv.weight`.
struct SingleFileSD3: AuthorsLayout {
  static let title = "Stable Diffusion 3's"
  static let key = "x_embedder.proj.weight"
  static let diffusersName = "pos_embed.proj.weight"

  let config: SD3Transformer2DConfig

  init(_ config: SD3Transformer2DConfig) { self.config = config }

  var table: PlaceTable {
    var table = PlaceTable()
    table.tensor("pos_embed.pos_embed", "pos_embed")
    table.layer("pos_embed.proj", "x_embedder.proj")
    for (name, key) in [("timestep", "t"), ("text", "y")] {
      table.layer("time_text_embed.\(name)_embedder.linear_1", "\(key)_embedder.mlp.0")
      table.layer("time_text_embed.\(name)_embedder.linear_2", "\(key)_embedder.mlp.2")
    }
    table.layer("context_embedder", "context_embedder")
    for index in 0..<config.layerCount { add(block: index, to: &table) }
    // The original has the shift first, diffusers the scale.
    table.layer("norm_out.linear", "final_layer.adaLN_modulation.1", swapsHalves: true)
    table.layer("proj_out", "final_layer.linear")
    return table
  }

  private func add(block index: Int, to table: inout PlaceTable) {
    let (name, own) = ("transformer_blocks.\(index)", "joint_blocks.\(index).x_block")
    let text = "joint_blocks.\(index).context_block"
    // Of the last block's text nothing but keys and values is of use.
    let isLast = index == config.layerCount - 1
    table.layer("\(name).norm1.linear", "\(own).adaLN_modulation.1")
    table.layer("\(name).norm1_context.linear", "\(text).adaLN_modulation.1", swapsHalves: isLast)
    for attention in config.dualAttentionLayers.contains(index) ? ["attn", "attn2"] : ["attn"] {
      table.heads(["q", "k", "v"].map { "\(name).\(attention).to_\($0)" }, "\(own).\(attention).qkv")
      table.layer("\(name).\(attention).to_out.0", "\(own).\(attention).proj")
    }
    table.heads(["q", "k", "v"].map { "\(name).attn.add_\($0)_proj" }, "\(text).attn.qkv")
    if config.normalizesHeads {
      for part in ["q", "k"] {
        table.tensor("\(name).attn.norm_\(part).weight", "\(own).attn.ln_\(part).weight")
        table.tensor("\(name).attn.norm_added_\(part).weight", "\(text).attn.ln_\(part).weight")
        if config.dualAttentionLayers.contains(index) {
          table.tensor("\(name).attn2.norm_\(part).weight", "\(own).attn2.ln_\(part).weight")
        }
      }
    }
    table.layer("\(name).ff.net.0.proj", "\(own).mlp.fc1")
    table.layer("\(name).ff.net.2", "\(own).mlp.fc2")
    guard !isLast else { return }
    table.layer("\(name).attn.to_add_out", "\(text).attn.proj")
    table.layer("\(name).ff_context.net.0.proj", "\(text).mlp.fc1")
    table.layer("\(name).ff_context.net.2", "\(text).mlp.fc2")
  }

  var summary: String {
    Self.summary(
      config.layerCount, twice: config.dualAttentionLayers.count, channels: config.channels,
      inputs: config.inChannels)
  }

  func summary(of file: any TensorFile, prefix: String) throws -> String {
    let patches = try file.requiredShape(of: prefix + "x_embedder.proj.weight")
    return Self.summary(
      file.count { "\(prefix)joint_blocks.\($0).x_block.mlp.fc1.bias" },
      twice: file.count { "\(prefix)joint_blocks.\($0).x_block.attn2.qkv.bias" }, channels: patches[0],
      inputs: patches.rank > 1 ? patches[1] : 1)
  }

  private static func summary(_ blocks: Int, twice: Int, channels: Int, inputs: Int) -> String {
    "\(blocks) blocks of \(channels) channels, \(twice) of them with a second attention, and \(inputs) input "
      + "channels"
  }
}
