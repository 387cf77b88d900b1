import LangevinModels

/// FLUX.1's transformer under the names of its authors: `double_blocks.0.img_attn.qkv.weight`.
struct SingleFileFlux: AuthorsLayout {
  static let title = "FLUX.1's"
  static let key = "img_in.weight"
  static let diffusersName = "x_embedder.weight"

  let config: FluxTransformer2DConfig

  init(_ config: FluxTransformer2DConfig) { self.config = config }

  var table: PlaceTable {
    var table = PlaceTable()
    var embedders = [("timestep", "time_in"), ("text", "vector_in")]
    if config.embedsGuidance { embedders.append(("guidance", "guidance_in")) }
    for (name, key) in embedders {
      table.layer("time_text_embed.\(name)_embedder.linear_1", "\(key).in_layer")
      table.layer("time_text_embed.\(name)_embedder.linear_2", "\(key).out_layer")
    }
    table.layer("x_embedder", "img_in")
    table.layer("context_embedder", "txt_in")
    for index in 0..<config.layerCount { add(block: index, to: &table) }
    for index in 0..<config.singleLayerCount { add(singleBlock: index, to: &table) }
    // The original has the shift first, diffusers the scale.
    table.layer("norm_out.linear", "final_layer.adaLN_modulation.1", swapsHalves: true)
    table.layer("proj_out", "final_layer.linear")
    return table
  }

  private func add(block index: Int, to table: inout PlaceTable) {
    let (name, key) = ("transformer_blocks.\(index)", "double_blocks.\(index)")
    table.layer("\(name).norm1.linear", "\(key).img_mod.lin")
    table.layer("\(name).norm1_context.linear", "\(key).txt_mod.lin")
    table.heads(["q", "k", "v"].map { "\(name).attn.to_\($0)" }, "\(key).img_attn.qkv")
    table.heads(["q", "k", "v"].map { "\(name).attn.add_\($0)_proj" }, "\(key).txt_attn.qkv")
    table.layer("\(name).attn.to_out.0", "\(key).img_attn.proj")
    table.layer("\(name).attn.to_add_out", "\(key).txt_attn.proj")
    for (part, full) in [("q", "query"), ("k", "key")] {
      table.tensor("\(name).attn.norm_\(part).weight", "\(key).img_attn.norm.\(full)_norm.scale")
      table.tensor("\(name).attn.norm_added_\(part).weight", "\(key).txt_attn.norm.\(full)_norm.scale")
    }
    for (part, own) in [("ff", "img_mlp"), ("ff_context", "txt_mlp")] {
      table.layer("\(name).\(part).net.0.proj", "\(key).\(own).0")
      table.layer("\(name).\(part).net.2", "\(key).\(own).2")
    }
  }

  private func add(singleBlock index: Int, to table: inout PlaceTable) {
    let (name, key) = ("single_transformer_blocks.\(index)", "single_blocks.\(index)")
    table.layer("\(name).norm.linear", "\(key).modulation.lin")
    // One matrix for the heads and for the perceptron, which is four times as wide.
    for (number, part) in ["q", "k", "v"].enumerated() {
      table.layer(
        "\(name).attn.to_\(part)", "\(key).linear1", RenamedWeights.Part(number..<number + 1, of: 7))
    }
    table.layer("\(name).proj_mlp", "\(key).linear1", RenamedWeights.Part(3..<7, of: 7))
    for (part, full) in [("q", "query"), ("k", "key")] {
      table.tensor("\(name).attn.norm_\(part).weight", "\(key).norm.\(full)_norm.scale")
    }
    table.layer("\(name).proj_out", "\(key).linear2")
  }

  var summary: String {
    Self.summary(
      config.layerCount, config.singleLayerCount, channels: config.channels, inputs: config.inChannels,
      guided: config.embedsGuidance)
  }

  func summary(of file: any TensorFile, prefix: String) throws -> String {
    let channels = try file.requiredShape(of: prefix + "img_in.bias")[0]
    return Self.summary(
      file.count { "\(prefix)double_blocks.\($0).img_mod.lin.bias" },
      file.count { "\(prefix)single_blocks.\($0).modulation.lin.bias" }, channels: channels,
      inputs: try file.requiredShape(of: prefix + "img_in.weight").count / max(channels, 1),
      guided: file.shape(of: prefix + "guidance_in.in_layer.bias") != nil)
  }

  private static func summary(_ double: Int, _ single: Int, channels: Int, inputs: Int, guided: Bool)
    -> String
  {
    "\(double) double and \(single) single blocks of \(channels) channels, \(inputs) input channels and "
      + (guided ? "a scale of guidance" : "no scale of guidance")
  }
}
