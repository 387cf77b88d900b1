import LangevinJSON
import LangevinTensor

/// The autoencoder of a single-file checkpoint: its architecture, read from the shapes, and its names.
struct SingleFileVAE {
  static let prefix = "first_stage_model."

  let widths: [Int]
  let layersPerBlock: Int
  let inChannels: Int
  let outChannels: Int
  let latentChannels: Int

  /// Throws `CheckpointError.missingTensor` and `.unsupported`.
  init(_ file: any TensorFile) throws {
    func shape(_ key: String) throws -> Shape {
      let shape = try file.requiredShape(of: Self.prefix + key)
      guard shape.rank == 4 else {
        throw CheckpointError.malformed(
          path: file.url.path, reason: "tensor '\(Self.prefix + key)' \(shape) is no convolution's")
      }
      return shape
    }
    func block(_ level: Int, _ layer: Int) -> String { "encoder.down.\(level).block.\(layer).conv1.weight" }
    func has(_ key: String) -> Bool { file.shape(of: Self.prefix + key) != nil }

    let first = try shape("encoder.conv_in.weight")
    inChannels = first[1]
    outChannels = try shape("decoder.conv_out.weight")[0]
    latentChannels = try shape("decoder.conv_in.weight")[1]
    var widths = [try shape(block(0, 0))[0]]
    while has(block(widths.count, 0)) { widths.append(try shape(block(widths.count, 0))[0]) }
    var layers = 1
    while has(block(0, layers)) { layers += 1 }
    guard first[0] == widths[0] else {
      throw CheckpointError.unsupported(
        path: file.url.path, found: "an autoencoder whose first convolution gives \(first[0]) channels",
        supported: ["\(widths[0]), the first level's"])
    }
    self.widths = widths
    layersPerBlock = layers
  }

  /// diffusers' name -> the file's key, without the prefix, and whether a 1x1 convolution becomes linear.
  var table: [(name: String, key: String, isLinear: Bool)] {
    var table: [(name: String, key: String, isLinear: Bool)] = []
    func add(_ name: String, _ key: String, isLinear: Bool = false) {
      table.append(("\(name).weight", "\(key).weight", isLinear))
      table.append(("\(name).bias", "\(key).bias", false))
    }
    func resnet(_ name: String, _ key: String, from input: Int, to output: Int) {
      for part in ["norm1", "conv1", "norm2", "conv2"] { add("\(name).\(part)", "\(key).\(part)") }
      if input != output { add("\(name).conv_shortcut", "\(key).nin_shortcut") }
    }
    let deepest = widths[widths.count - 1]
    for side in ["encoder", "decoder"] {
      add("\(side).conv_in", "\(side).conv_in")
      add("\(side).conv_norm_out", "\(side).norm_out")
      add("\(side).conv_out", "\(side).conv_out")
      resnet("\(side).mid_block.resnets.0", "\(side).mid.block_1", from: deepest, to: deepest)
      resnet("\(side).mid_block.resnets.1", "\(side).mid.block_2", from: deepest, to: deepest)
      let (attention, key) = ("\(side).mid_block.attentions.0", "\(side).mid.attn_1")
      add("\(attention).group_norm", "\(key).norm")
      add("\(attention).to_q", "\(key).q", isLinear: true)
      add("\(attention).to_k", "\(key).k", isLinear: true)
      add("\(attention).to_v", "\(key).v", isLinear: true)
      add("\(attention).to_out.0", "\(key).proj_out", isLinear: true)
    }
    add("quant_conv", "quant_conv")
    add("post_quant_conv", "post_quant_conv")

    var width = widths[0]
    for (level, output) in widths.enumerated() {
      for layer in 0..<layersPerBlock {
        resnet(
          "encoder.down_blocks.\(level).resnets.\(layer)", "encoder.down.\(level).block.\(layer)",
          from: width,
          to: output)
        width = output
      }
      if level < widths.count - 1 {
        add("encoder.down_blocks.\(level).downsamplers.0.conv", "encoder.down.\(level).downsample.conv")
      }
    }
    // The decoder's levels keep the encoder's numbers in the file, and run the other way in diffusers.
    width = deepest
    for (block, level) in widths.indices.reversed().enumerated() {
      for layer in 0...layersPerBlock {
        resnet(
          "decoder.up_blocks.\(block).resnets.\(layer)", "decoder.up.\(level).block.\(layer)", from: width,
          to: widths[level])
        width = widths[level]
      }
      if level > 0 {
        add("decoder.up_blocks.\(block).upsamplers.0.conv", "decoder.up.\(level).upsample.conv")
      }
    }
    return table
  }

  /// Pixels per latent along each side.
  var scale: Int { 1 << (widths.count - 1) }

  /// The scaling factor is not in the file: it is the original configuration's scale_factor.
  func config(sampleSize: Int, scalingFactor: Double) -> StrictJSON {
    .object([
      StrictJSON.Member("_class_name", .string("AutoencoderKL")),
      StrictJSON.Member("act_fn", .string("silu")),
      StrictJSON.Member("block_out_channels", .integers(widths)),
      StrictJSON.Member("down_block_types", .strings(widths.map { _ in "DownEncoderBlock2D" })),
      StrictJSON.Member("in_channels", .integer(inChannels)),
      StrictJSON.Member("latent_channels", .integer(latentChannels)),
      StrictJSON.Member("layers_per_block", .integer(layersPerBlock)),
      StrictJSON.Member("norm_num_groups", .integer(32)),
      StrictJSON.Member("out_channels", .integer(outChannels)),
      StrictJSON.Member("sample_size", .integer(sampleSize)),
      StrictJSON.Member("scaling_factor", .real(scalingFactor)),
      StrictJSON.Member("up_block_types", .strings(widths.map { _ in "UpDecoderBlock2D" })),
    ])
  }
}
