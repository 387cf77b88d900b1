import LangevinTensor

/// The pipelines that there are.
public enum Pipelines {
  /// A new pipeline is one line here; the classes that it runs and the components that it needs are its own.
  public static let all: [any Pipeline.Type] = [
    StableDiffusion.self,
    StableDiffusionXL.self,
    UnconditionalDiffusion.self,
    WanTextToVideo.self,
    UnCLIP.self,
    UnCLIPImageVariation.self,
    StableUnCLIP.self,
    StableUnCLIPImageVariation.self,
  ]

  /// Every class of model_index.json that is supported.
  public static var classes: [String] { all.flatMap { $0.classes } }

  /// The pipeline that runs a class; nil where none does.
  static func type(of name: String) -> (any Pipeline.Type)? { all.first { $0.classes.contains(name) } }

  /// The pipeline that a checkpoint asks for, on a device.
  ///
  /// `precision` is how weights and activations are stored; a component that overflows in float16 keeps float32,
  /// and latents and sampler arithmetic are float32 always.
  ///
  /// Throws `CheckpointError.unsupported` for a class that is not supported, and what the pipeline's init throws.
  public static func open(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws
    -> any Pipeline
  {
    guard let type = type(of: checkpoint.pipeline) else {
      throw CheckpointError.unsupported(
        path: checkpoint.url.path, found: checkpoint.pipeline, supported: classes)
    }
    return try type.init(checkpoint, on: device, precision: precision)
  }
}
