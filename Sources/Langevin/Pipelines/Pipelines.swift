import LangevinTensor
import Synchronization

/// The pipelines that there are: those of this module, and what other packages add.
public enum Pipelines {
  /// A new pipeline is one line here; the classes that it runs and the components that it needs are its own.
  private static let own: [any Pipeline.Type] = [
    StableDiffusion.self,
    StableDiffusionXL.self,
    StableDiffusion3.self,
    Flux.self,
    UnconditionalDiffusion.self,
    WanTextToVideo.self,
    WanImageToVideo.self,
    UnCLIP.self,
    UnCLIPImageVariation.self,
    StableUnCLIP.self,
    StableUnCLIPImageVariation.self,
  ]

  private static let registered = Mutex<[any Pipeline.Type]>([])

  /// All of them; those of other packages last.
  public static var all: [any Pipeline.Type] { own + registered.withLock { $0 } }

  /// Makes a pipeline known: checkpoints of its classes are opened and run from now on.
  ///
  /// Throws `GenerationError.classTaken` where another pipeline runs one of its classes.
  public static func register(_ pipeline: any Pipeline.Type) throws {
    try registered.withLock { registered in
      for other in own + registered {
        if let name = other.classes.first(where: pipeline.classes.contains) {
          throw GenerationError.classTaken(name, by: "\(other)")
        }
      }
      registered.append(pipeline)
    }
  }

  /// Every class of model_index.json that is supported.
  public static var classes: [String] { all.flatMap { $0.classes } }

  /// For messages: a class of each pipeline, whose others are the same model asked for something else.
  static var examples: [String] { all.compactMap { $0.classes.first } }

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
    try type(for: checkpoint).init(checkpoint, on: device, precision: precision)
  }

  /// Finds what is wrong with a request before a device is opened; `resolved` of the pipeline finds the rest.
  ///
  /// Throws `CheckpointError.unsupported` for a class that is not supported, and `GenerationError`.
  public static func check(_ request: GenerationRequest, for checkpoint: Checkpoint) throws {
    try type(for: checkpoint).check(request, for: checkpoint.pipeline)
  }

  private static func type(for checkpoint: Checkpoint) throws -> any Pipeline.Type {
    guard let type = type(of: checkpoint.pipeline) else {
      throw CheckpointError.unsupported(
        path: checkpoint.url.path, found: checkpoint.pipeline, supported: examples)
    }
    return type
  }
}
