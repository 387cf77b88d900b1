import LangevinJSON
import LangevinNN
import LangevinTensor

/// A ControlNet of Stable Diffusion 1.x or 2.x in one file, under the keys of its authors' implementation:
/// `control_model.input_blocks.…`, or the same without `control_model.`.
struct SingleFileControlNet {
  /// Under diffusers' names.
  let component: Checkpoint.Component

  /// Throws `CheckpointError.unsupported`, `.missingTensor`, `.unknownTensors`.
  init(_ file: SafetensorsFile) throws {
    let prefixes = ["control_model.", ""]
    guard
      let prefix = prefixes.first(where: { file.shape(of: $0 + "input_hint_block.0.weight") != nil })
    else {
      throw CheckpointError.unsupported(
        path: file.url.path, found: "a file that is no ControlNet in the original key layout",
        supported: ["such a file of Stable Diffusion 1.x or 2.x", "a diffusers folder"])
    }
    guard file.shape(of: prefix + "label_emb.0.0.weight") == nil else {
      throw CheckpointError.unsupported(
        path: file.url.path, found: "a ControlNet of Stable Diffusion XL in one file",
        supported: ["a diffusers folder", "one file of Stable Diffusion 1.x or 2.x"])
    }
    let unet = try SingleFileUNet(file, prefix: prefix, hasNoWayUp: true)
    let hint = try Hint(file, prefix: prefix)
    let heads: StrictJSON = unet.isLinear ? .integers(unet.widths.map { max($0 / 64, 1) }) : .integer(8)
    var members: [StrictJSON.Member] = []
    if case .object(let known) = unet.config(heads: heads, sampleSize: 64) { members = known }
    let table =
      unet.table.filter { name, _ in
        !["up_blocks.", "conv_norm_out.", "conv_out."].contains(where: name.hasPrefix)
      } + hint.table + Self.additions(unet)
    let places = table.map { (name: $0.name, place: RenamedWeights.Place(key: prefix + $0.key)) }
    let used = Set(places.map(\.place.key))
    // Some files have the whole model beside it.
    let unknown = file.names.filter { $0.hasPrefix(prefix) && !used.contains($0) }
    guard unknown.isEmpty else {
      throw CheckpointError.unknownTensors(path: file.url.path, names: unknown.sorted())
    }
    component = Checkpoint.Component(
      "ControlNetModel",
      config: .object(
        members.filter { !["_class_name", "out_channels", "up_block_types"].contains($0.key) } + [
          StrictJSON.Member("_class_name", .string("ControlNetModel")),
          StrictJSON.Member("conditioning_channels", .integer(hint.channels)),
          StrictJSON.Member("conditioning_embedding_out_channels", .integers(hint.widths)),
        ]), weights: try RenamedWeights(places, in: file))
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

    init(_ file: SafetensorsFile, prefix: String) throws {
      func key(_ index: Int) -> String { "input_hint_block.\(2 * index)" }
      var count = 0
      while file.shape(of: "\(prefix)\(key(count)).weight") != nil { count += 1 }
      let shapes = try (0..<count).map { try file.requiredShape(of: "\(prefix)\(key($0)).weight") }
      guard count >= 2, count % 2 == 0, shapes.allSatisfy({ $0.rank == 4 }) else {
        throw CheckpointError.malformed(
          path: file.url.path, reason: "its input_hint_block has \(count) convolutions")
      }
      channels = shapes[0][1]
      widths = stride(from: 0, to: count - 1, by: 2).map { shapes[$0][0] }
      table = (0..<count).flatMap { index -> [(name: String, key: String)] in
        let part = index == 0 ? "conv_in" : index == count - 1 ? "conv_out" : "blocks.\(index - 1)"
        return ["weight", "bias"].map {
          ("controlnet_cond_embedding.\(part).\($0)", "\(key(index)).\($0)")
        }
      }
    }
  }
}
