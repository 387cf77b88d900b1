import Foundation
import LangevinModels
import LangevinNN
import LangevinTensor

/// An IP-Adapter's file with CLIP's image encoder, whose weights are not loaded yet. arXiv:2308.06721.
public struct ImagePromptAdapter: Sendable {
  /// The adapter's file.
  public let url: URL
  /// The folder of the image encoder.
  public let encoderURL: URL
  let file: SafetensorsFile
  let encoder: Checkpoint.Component
  let encoderConfig: CLIPVisionConfig
  let preparation: ImagePreparation
  /// Whether it looks at the encoder's states rather than at its embedding.
  let takesStates: Bool

  /// Opens a file in the authors' layout (`image_proj.…`, `ip_adapter.…`), and the folder of its image
  /// encoder, by default `image_encoder` beside it.
  ///
  /// Throws `ControlError`, `CheckpointError`, `ModelError`.
  public init(url: URL, imageEncoder: URL? = nil) throws {
    let file = try SafetensorsFile(url: url)
    let inputs = file.shape(of: Self.linear) ?? file.shape(of: Self.resampler)
    guard let inputs, inputs.rank == 2, file.shape(of: "ip_adapter.1.to_k_ip.weight") != nil else {
      throw ControlError.noImagePromptAdapter(path: url.path)
    }
    let folder = imageEncoder ?? url.deletingLastPathComponent().appendingPathComponent("image_encoder")
    if imageEncoder == nil, !FileManager.default.fileExists(atPath: folder.path) {
      throw ControlError.noImageEncoder(path: url.path)
    }
    let encoder = try ModelFolder.component(folder)
    guard encoder.className == "CLIPVisionModelWithProjection" else {
      throw CheckpointError.unsupported(
        path: folder.path, found: "the image encoder \(encoder.className)",
        supported: ["CLIPVisionModelWithProjection"])
    }
    let config = try CLIPVisionConfig(encoder.configuration)
    takesStates = file.shape(of: Self.linear) == nil
    let got = takesStates ? config.hiddenSize : config.projectionSize
    guard got == inputs[1] else {
      throw ControlError.otherEncoder(path: url.path, encoder: folder.path, got: got, needed: inputs[1])
    }
    preparation = try Self.preparation(folder, config)
    (self.url, self.file, encoderURL) = (url, file, folder)
    (self.encoder, encoderConfig) = (encoder, config)
  }

  /// The first layer of the authors' first adapters, and of the "plus" ones.
  private static let (linear, resampler) = ("image_proj.proj.weight", "image_proj.proj_in.weight")

  /// The folder's own where there is one, else CLIP's for the encoder's size.
  private static func preparation(_ folder: URL, _ config: CLIPVisionConfig) throws -> ImagePreparation {
    if FileManager.default.fileExists(
      atPath: folder.appendingPathComponent("preprocessor_config.json").path)
    {
      return try ImagePreparation(folder: folder)
    }
    var preparation = ImagePreparation()
    preparation.size = .shortestEdge(config.imageSize)
    preparation.crop = [config.imageSize, config.imageSize]
    return preparation
  }

  /// Throws `ControlError.otherBase` unless it was made for a UNet with such cross-attentions.
  func check(fits unet: UNet2DConditionConfig) throws {
    let attentions = unet.crossAttentions
    func require(_ key: String, _ got: String, _ needed: String) throws {
      guard got != needed else { return }
      throw ControlError.otherBase(
        path: url.path, kind: "IP-Adapter", key: key, got: got, needed: needed)
    }
    let keys = file.names.filter { $0.hasSuffix(".to_k_ip.weight") }
    let widths = keys.compactMap { file.shape(of: $0) }.filter { $0.rank == 2 }.map { $0[1] }
    if let first = attentions.first, let other = widths.first(where: { $0 != first.contextChannels }) {
      try require("cross_attention_dim", "\(other)", "\(first.contextChannels)")
    }
    try require("number of cross-attentions", "\(keys.count)", "\(attentions.count)")
    for (i, attention) in attentions.enumerated() {
      let name = "ip_adapter.\(2 * i + 1).to_k_ip.weight"
      let shape = file.shape(of: name)?.description ?? "absent"
      try require(name, shape, "\(Shape([attention.channels, attention.contextChannels]))")
    }
  }
}

/// Pictures that say what is drawn, beside the text.
public struct ImagePrompt: Sendable {
  /// What reads the pictures.
  public var adapter: ImagePromptAdapter
  /// At least one.
  public var pictures: [Picture]
  /// How strongly they are followed; 0.5 to 0.7 leaves room for the text.
  public var scale: Double

  /// Pictures for an adapter.
  public init(_ adapter: ImagePromptAdapter, _ pictures: [Picture], scale: Double = 1) {
    (self.adapter, self.pictures, self.scale) = (adapter, pictures, scale)
  }
}
