import LangevinTensor

/// A network in a file by itself, by its tensors' names.
struct LoneNetwork {
  /// `FLUX.1's transformer`.
  let kind: String
  /// How many transformer blocks there are, of each kind; empty for a UNet.
  private(set) var blocks: [Int] = []
  /// Numbers of a token of the text that it reads; nil where the file does not show it.
  private(set) var contextWidth: Int?

  private struct Architecture {
    let kind: String
    /// A name that every such file has, and one of each kind of block.
    let name: String
    let blocks: [(before: String, after: String)]
  }

  private static func transformer<Layout: AuthorsLayout>(
    _ layout: Layout.Type, _ own: [(String, String)], diffusers: [(String, String)]
  ) -> [Architecture] {
    let kind = "\(layout.title) transformer"
    return [
      Architecture(kind: kind, name: layout.key, blocks: own),
      Architecture(kind: kind, name: layout.diffusersName, blocks: diffusers),
    ]
  }

  private static let architectures =
    transformer(
      SingleFileFlux.self,
      [("double_blocks.", ".img_mod.lin.bias"), ("single_blocks.", ".modulation.lin.bias")],
      diffusers: [
        ("transformer_blocks.", ".attn.to_q.weight"), ("single_transformer_blocks.", ".attn.to_q.weight"),
      ])
    + transformer(
      SingleFileSD3.self, [("joint_blocks.", ".x_block.mlp.fc1.bias")],
      diffusers: [("transformer_blocks.", ".attn.to_q.weight")])
    + transformer(
      SingleFileWan.self, [("blocks.", ".modulation")], diffusers: [("blocks.", ".scale_shift_table")])

  /// Nil where it is none that is known.
  init?(_ file: any TensorFile) {
    func has(_ name: String) -> Bool { file.shape(of: name) != nil }
    let prefixes = [SingleFileUNet.prefix, "diffusion_model.", ""]
    for prefix in prefixes {
      for architecture in Self.architectures where has(prefix + architecture.name) {
        let counts = architecture.blocks.map { block in
          file.count { "\(prefix)\(block.before)\($0)\(block.after)" }
        }
        guard counts.allSatisfy({ $0 > 0 }) else { continue }
        (kind, blocks) = (architecture.kind, counts)
        return
      }
    }
    let isControl = { (file as? SafetensorsFile).flatMap { try? SingleFileControlNet($0) } != nil }
    let isUNet =
      prefixes.contains { has("\($0)input_blocks.0.0.weight") && has("\($0)out.2.weight") }
      || has("conv_in.weight") && has("up_blocks.0.resnets.0.conv1.weight") && has("conv_out.weight")
        && has("time_embedding.linear_1.weight")
    guard isUNet || isControl() else { return nil }
    kind = isUNet ? "a UNet" : "a ControlNet"
    contextWidth = file.names.first { $0.hasSuffix("attn2.to_k.weight") }
      .flatMap { file.shape(of: $0)?.dimensions.last }
  }
}
