import Foundation
import LangevinModels
import LangevinNN
import LangevinTensor

/// A ControlNet or a T2I-Adapter whose files were found and whose weights are not loaded yet.
public struct ControlNetwork: Sendable {
  /// What the network is, and its sizes.
  public enum Kind: Sendable, Hashable {
    /// Runs in every step. arXiv:2302.05543.
    case controlNet(ControlNetConfig)
    /// Runs once. arXiv:2302.08453.
    case adapter(T2IAdapterConfig)
  }

  /// The folder or file.
  public let url: URL
  /// What the network is, and its sizes.
  public private(set) var kind: Kind
  let component: Checkpoint.Component
  /// One file has no configuration: what shapes do not tell is not known.
  private let isOneFile: Bool

  /// Opens a diffusers folder, config.json with its weights, or a ControlNet in one file.
  ///
  /// Throws `CheckpointError`, with `.unsupported` for another network, and `ModelError`.
  public init(url: URL) throws {
    self.url = url
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw CheckpointError.missingFile(path: url.path)
    }
    isOneFile = !isFolder.boolValue
    component =
      isFolder.boolValue
      ? try ModelFolder.component(url) : try SingleFileControlNet(SafetensorsFile(url: url)).component
    switch component.className {
    case "ControlNetModel": kind = .controlNet(try ControlNetConfig(component.configuration))
    case "T2IAdapter": kind = .adapter(try T2IAdapterConfig(component.configuration))
    default:
      throw CheckpointError.unsupported(
        path: url.path, found: "the control network \(component.className)",
        supported: ["ControlNetModel", "T2IAdapter"])
    }
  }

  /// For people.
  public var title: String {
    switch kind {
    case .controlNet: "ControlNet"
    case .adapter: "T2I-Adapter"
    }
  }

  /// The channels of its picture.
  var channels: Int {
    switch kind {
    case .controlNet(let config): config.conditioningChannels
    case .adapter(let config): config.inChannels
    }
  }

  /// A picture's height and width must be multiples of this.
  var sizeMultiple: Int {
    switch kind {
    case .controlNet(let config): config.downscale
    case .adapter(let config): config.sizeMultiple
    }
  }

  /// Throws `ControlError.otherBase` unless it was made beside a UNet like this one, whose latents are
  /// `scale` pixels a side.
  func check(fits unet: UNet2DConditionConfig, scale: Int) throws {
    func require<Value: Equatable>(_ key: String, _ got: Value, _ needed: Value) throws {
      guard got != needed else { return }
      throw ControlError.otherBase(
        path: url.path, kind: title, key: key, got: Self.text(got), needed: Self.text(needed))
    }
    switch kind {
    case .controlNet(let config):
      let own = config.unet
      try require("cross_attention_dim", own.crossAttentionChannels, unet.crossAttentionChannels)
      try require("block_out_channels", own.blockOutChannels, unet.blockOutChannels)
      try require("layers_per_block", own.layersPerBlock, unet.layersPerBlock)
      try require(
        "down_block_types", own.downBlocks.map(\.downName), unet.downBlocks.map(\.downName))
      try require("in_channels", own.inChannels, unet.inChannels)
      try require(
        "projection_class_embeddings_input_dim", own.textTime?.inputs ?? 0, unet.textTime?.inputs ?? 0)
      try require("conditioning_embedding_out_channels' reduction", config.downscale, scale)
    case .adapter(let config):
      // Of a picture whose sides every level divides.
      let side = unet.sizeMultiple * config.sizeMultiple
      let needed = unet.blockShapes(height: side, width: side)
      let own = config.featureShapes(height: side * scale, width: side * scale)
      let count = max(needed.count - 1, min(own.count, needed.count))
      try require("features", own.map(\.description), needed.prefix(count).map(\.description))
    }
  }

  /// A ControlNet is a copy of its UNet's way down. Where its own file does not tell them, heads, groups of the norms and
  /// the width of each size that is added to the time are the UNet's, which `check` has passed.
  func completed(by unet: UNet2DConditionConfig) -> ControlNetwork {
    guard isOneFile, case .controlNet(var config) = kind else { return self }
    (config.unet.headCounts, config.unet.headSizes) = (unet.headCounts, unet.headSizes)
    (config.unet.normGroups, config.unet.normEpsilon) = (unet.normGroups, unet.normEpsilon)
    config.unet.textTime = unet.textTime
    var network = self
    network.kind = .controlNet(config)
    return network
  }

  /// A list whose numbers are all the same is that number, as files have it.
  private static func text<Value>(_ value: Value) -> String {
    guard let list = value as? [Int], let first = list.first, Set(list).count == 1 else {
      return (value as? [String])?.joined(separator: ", ") ?? "\(value)"
    }
    return "\(first)"
  }
}

/// A picture that a generation follows, and the network that reads it.
public struct Control: Sendable {
  /// What reads the picture.
  public var network: ControlNetwork
  /// Of the kind that the network was trained on: edges, depth, a pose.
  public var picture: Picture
  /// How strongly it is followed; 1 is as in training.
  public var scale: Double

  /// A picture for a network.
  public init(_ network: ControlNetwork, _ picture: Picture, scale: Double = 1) {
    (self.network, self.picture, self.scale) = (network, picture, scale)
  }
}
