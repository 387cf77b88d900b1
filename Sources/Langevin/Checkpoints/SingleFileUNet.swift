import LangevinJSON
import LangevinTensor

/// The UNet of a single-file checkpoint: its architecture, read from the shapes, and its names.
///
/// The original layout numbers every layer in one list: `input_blocks` has the first convolution, then each
/// level's ResNet blocks (`.0`) with their transformers (`.1`) and, but for the last level, a downsampler;
/// `output_blocks` mirrors it, with the upsampler behind a level's last block.
struct SingleFileUNet {
  static let prefix = "model.diffusion_model."

  let widths: [Int]
  let layersPerBlock: Int
  /// Per level: how many transformer blocks follow each ResNet block; 0 for none.
  let depths: [Int]
  let midDepth: Int
  let inChannels: Int
  let outChannels: Int
  let contextWidth: Int
  let isLinear: Bool
  /// Width of Stable Diffusion XL's pooled text and sizes together.
  let addedWidth: Int?

  /// `hasAdded` says that the file's family adds text and sizes to the time. A network that `hasNoWayUp` is a
  /// ControlNet.
  ///
  /// Throws `CheckpointError.missingTensor` and `.unsupported`.
  init(
    _ file: any TensorFile, prefix: String = Self.prefix, hasAdded: Bool = false, hasNoWayUp: Bool = false
  ) throws {
    func shape(_ key: String) throws -> Shape { try file.requiredShape(of: prefix + key) }
    func has(_ key: String) -> Bool { file.shape(of: prefix + key) != nil }
    func depth(_ key: String) -> Int {
      var count = 0
      while has("\(key).transformer_blocks.\(count).norm1.weight") { count += 1 }
      return count
    }
    func unsupported(_ found: String) -> CheckpointError {
      .unsupported(
        path: file.url.path, found: found, supported: SingleFileCheckpoint.Family.allCases.map(\.rawValue))
    }

    let first = try shape("input_blocks.0.0.weight")
    guard first.rank == 4 else { throw unsupported("a first convolution of shape \(first)") }
    inChannels = first[1]
    outChannels = hasNoWayUp ? inChannels : try shape("out.2.weight")[0]

    var levels: [[(width: Int, depth: Int)]] = [[]]
    var index = 1
    while true {
      let block = "input_blocks.\(index)"
      if has("\(block).0.op.weight") {
        levels.append([])
      } else if has("\(block).0.in_layers.2.weight") {
        let width = try shape("\(block).0.in_layers.2.weight")[0]
        levels[levels.count - 1].append((width, depth("\(block).1")))
      } else {
        break
      }
      index += 1
    }
    layersPerBlock = levels[0].count
    guard layersPerBlock > 0 else {
      throw CheckpointError.missingTensor(
        path: file.url.path, name: prefix + "input_blocks.1.0.in_layers.2.weight")
    }
    var widths: [Int] = []
    var depths: [Int] = []
    for level in levels {
      guard level.count == layersPerBlock, let block = level.first,
        level.allSatisfy({ $0.width == block.width && $0.depth == block.depth })
      else { throw unsupported("a UNet whose levels differ in their blocks") }
      widths.append(block.width)
      depths.append(block.depth)
    }
    guard first[0] == widths[0] else {
      throw unsupported("a UNet whose first convolution gives \(first[0]) channels")
    }
    self.widths = widths
    self.depths = depths
    midDepth = depth("middle_block.1")
    let projection = try shape("middle_block.1.proj_in.weight")
    isLinear = projection.rank == 2
    let keys = try shape("middle_block.1.transformer_blocks.0.attn2.to_k.weight")
    guard keys.rank == 2 else { throw unsupported("a cross-attention of shape \(keys)") }
    contextWidth = keys[1]
    addedWidth = try hasAdded ? Self.matrix(shape("label_emb.0.0.weight"), file)[1] : nil
  }

  private static func matrix(_ shape: Shape, _ file: any TensorFile) throws -> Shape {
    guard shape.rank == 2 else {
      throw CheckpointError.malformed(
        path: file.url.path, reason: "tensor '\(prefix)label_emb.0.0.weight' \(shape) is no matrix")
    }
    return shape
  }

  /// diffusers' name -> the file's key, without the prefix.
  var table: [(name: String, key: String)] {
    var table: [(name: String, key: String)] = []
    func add(_ name: String, _ key: String, bias: Bool = true) {
      table.append(("\(name).weight", "\(key).weight"))
      if bias { table.append(("\(name).bias", "\(key).bias")) }
    }
    func resnet(_ name: String, _ key: String, from input: Int, to output: Int) {
      add("\(name).norm1", "\(key).in_layers.0")
      add("\(name).conv1", "\(key).in_layers.2")
      add("\(name).time_emb_proj", "\(key).emb_layers.1")
      add("\(name).norm2", "\(key).out_layers.0")
      add("\(name).conv2", "\(key).out_layers.3")
      if input != output { add("\(name).conv_shortcut", "\(key).skip_connection") }
    }
    func transformer(_ name: String, _ key: String, depth: Int) {
      guard depth > 0 else { return }
      for part in ["norm", "proj_in", "proj_out"] { add("\(name).\(part)", "\(key).\(part)") }
      for block in (0..<depth).map({ "transformer_blocks.\($0)" }) {
        for part in [
          "norm1", "norm2", "norm3", "attn1.to_out.0", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2",
        ] {
          add("\(name).\(block).\(part)", "\(key).\(block).\(part)")
        }
        for attention in ["attn1", "attn2"] {
          for part in ["to_q", "to_k", "to_v"] {
            add("\(name).\(block).\(attention).\(part)", "\(key).\(block).\(attention).\(part)", bias: false)
          }
        }
      }
    }

    add("time_embedding.linear_1", "time_embed.0")
    add("time_embedding.linear_2", "time_embed.2")
    if addedWidth != nil {
      add("add_embedding.linear_1", "label_emb.0.0")
      add("add_embedding.linear_2", "label_emb.0.2")
    }
    add("conv_in", "input_blocks.0.0")
    add("conv_norm_out", "out.0")
    add("conv_out", "out.2")

    var width = widths[0]
    var skips = [width]
    var index = 1
    for (level, output) in widths.enumerated() {
      for layer in 0..<layersPerBlock {
        resnet("down_blocks.\(level).resnets.\(layer)", "input_blocks.\(index).0", from: width, to: output)
        transformer(
          "down_blocks.\(level).attentions.\(layer)", "input_blocks.\(index).1", depth: depths[level])
        width = output
        skips.append(width)
        index += 1
      }
      if level < widths.count - 1 {
        add("down_blocks.\(level).downsamplers.0.conv", "input_blocks.\(index).0.op")
        skips.append(width)
        index += 1
      }
    }
    resnet("mid_block.resnets.0", "middle_block.0", from: width, to: width)
    transformer("mid_block.attentions.0", "middle_block.1", depth: midDepth)
    resnet("mid_block.resnets.1", "middle_block.2", from: width, to: width)
    index = 0
    for (block, level) in widths.indices.reversed().enumerated() {
      for layer in 0...layersPerBlock {
        let input = width + skips.removeLast()
        resnet(
          "up_blocks.\(block).resnets.\(layer)", "output_blocks.\(index).0", from: input, to: widths[level])
        transformer(
          "up_blocks.\(block).attentions.\(layer)", "output_blocks.\(index).1", depth: depths[level])
        width = widths[level]
        if layer == layersPerBlock, level > 0 {
          let place = depths[level] > 0 ? 2 : 1
          add("up_blocks.\(block).upsamplers.0.conv", "output_blocks.\(index).\(place).conv")
        }
        index += 1
      }
    }
    return table
  }

  /// - Parameters:
  ///   - heads: what diffusers calls attention_head_dim, though it counts heads.
  ///   - sampleSize: of the latents that the model was trained on.
  ///   - sizeChannels: of each of the sizes that are added to the time, where they are.
  func config(heads: StrictJSON, sampleSize: Int, sizeChannels: Int? = nil) -> StrictJSON {
    let kinds = depths.map { $0 > 0 ? "CrossAttn" : "" }
    let depth =
      Set(depths.filter { $0 > 0 }).count > 1
      ? StrictJSON.integers(depths.map { max($0, 1) }) : .integer(midDepth)
    var added: [StrictJSON.Member] = []
    if let addedWidth, let sizeChannels {
      added = [
        StrictJSON.Member("addition_embed_type", .string("text_time")),
        StrictJSON.Member("addition_time_embed_dim", .integer(sizeChannels)),
        StrictJSON.Member("projection_class_embeddings_input_dim", .integer(addedWidth)),
      ]
    }
    return .object(
      [
        StrictJSON.Member("_class_name", .string("UNet2DConditionModel")),
        StrictJSON.Member("act_fn", .string("silu")),
        StrictJSON.Member("attention_head_dim", heads),
        StrictJSON.Member("block_out_channels", .integers(widths)),
        StrictJSON.Member("center_input_sample", .bool(false)),
        StrictJSON.Member("cross_attention_dim", .integer(contextWidth)),
        StrictJSON.Member("down_block_types", .strings(kinds.map { "\($0)DownBlock2D" })),
        StrictJSON.Member("downsample_padding", .integer(1)),
        StrictJSON.Member("flip_sin_to_cos", .bool(true)),
        StrictJSON.Member("freq_shift", .integer(0)),
        StrictJSON.Member("in_channels", .integer(inChannels)),
        StrictJSON.Member("layers_per_block", .integer(layersPerBlock)),
        StrictJSON.Member("mid_block_scale_factor", .integer(1)),
        StrictJSON.Member("norm_eps", .real(1e-5)),
        StrictJSON.Member("norm_num_groups", .integer(32)),
        StrictJSON.Member("out_channels", .integer(outChannels)),
        StrictJSON.Member("sample_size", .integer(sampleSize)),
        StrictJSON.Member("transformer_layers_per_block", depth),
        StrictJSON.Member("up_block_types", .strings(kinds.reversed().map { "\($0)UpBlock2D" })),
        StrictJSON.Member("use_linear_projection", .bool(isLinear)),
      ] + added)
  }
}
