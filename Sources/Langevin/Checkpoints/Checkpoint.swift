import Foundation
import LangevinJSON
import LangevinModels
import LangevinNN

/// Everything that a Stable Diffusion pipeline is made of, whichever layout its files have.
public struct Checkpoint: Sendable {
  /// A network: its diffusers-style config.json and its tensors under diffusers' names.
  public struct Component: Sendable {
    /// The contents of config.json.
    public let config: StrictJSON
    /// Under diffusers' names.
    public let weights: any WeightSource

    /// A component of these parts; nothing is read yet.
    public init(config: StrictJSON, weights: any WeightSource) {
      self.config = config
      self.weights = weights
    }
  }

  /// Where the tokenizer comes from.
  public enum TokenizerSource: Sendable, Equatable {
    case folder(URL)
    /// CLIP's own vocabulary, filled up with this token.
    case clip(padding: String)

    /// Reads the tokenizer. Throws `TokenizerError`, and `CheckpointError` where a resource is missing.
    public func load() throws -> CLIPTokenizer {
      switch self {
      case .folder(let url): try CLIPTokenizer(folder: url)
      case .clip(let padding): try CLIPTokenizer(merges: ClipMerges.text, padding: padding)
      }
    }
  }

  /// The folder or file.
  public let url: URL
  /// A UNet2DConditionModel.
  public let unet: Component
  /// An AutoencoderKL.
  public let vae: Component
  /// A CLIPTextModel; its tensors' names begin with `text_model.` or, in newer folders, do not.
  public let textEncoder: Component
  /// A diffusers scheduler_config.json.
  public let scheduler: Data
  /// CLIP's; read by `TokenizerSource.load`.
  public let tokenizer: TokenizerSource
  /// What the model's folder recommends; nothing for a single file.
  public let recommended: RecommendedSettings

  /// A checkpoint of these parts, for models that come from elsewhere than files.
  public init(
    url: URL, unet: Component, vae: Component, textEncoder: Component, scheduler: Data,
    tokenizer: TokenizerSource, recommended: RecommendedSettings = RecommendedSettings()
  ) {
    (self.url, self.unet, self.vae, self.textEncoder) = (url, unet, vae, textEncoder)
    (self.scheduler, self.tokenizer, self.recommended) = (scheduler, tokenizer, recommended)
  }

  /// Opens a diffusers folder or a single-file checkpoint.
  ///
  /// - Parameters:
  ///   - url: a folder with a model_index.json, or a safetensors file in the original key layout.
  ///   - prediction: overrides what the network is taken to predict: `epsilon`, `v_prediction` or `sample`.
  ///
  /// Throws `CheckpointError`.
  public static func open(_ url: URL, prediction: String? = nil) throws -> Checkpoint {
    if let prediction, !predictions.contains(prediction) {
      throw CheckpointError.unsupported(
        path: url.path, found: "the prediction type '\(prediction)'", supported: predictions)
    }
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw CheckpointError.missingFile(path: url.path)
    }
    return isFolder.boolValue
      ? try ModelFolder.open(url, prediction: prediction)
      : try SingleFileCheckpoint(url: url, prediction: prediction).checkpoint
  }

  static let predictions = ["epsilon", "v_prediction", "sample"]
}
