import LangevinTensor

/// Latents in the field's exchange layout.
public struct HostLatents: Sendable, Equatable {
  /// Float32, [images, C, spatial...].
  public var values: [Float]
  /// The extents, channels first: [images, C, spatial...].
  public var shape: Shape

  /// Latents of these values; a request checks that their number fits the shape.
  public init(values: [Float], shape: Shape) {
    self.values = values
    self.shape = shape
  }

  /// Reads a latent back from its device: channels last, [N, spatial..., C]. Throws `TensorError`.
  public init(_ latent: Tensor) throws {
    let rank = latent.shape.rank
    let exchanged = try latent.cast(to: .float32).transposed([0, rank - 1] + Array(1..<max(rank - 1, 1)))
    self.init(values: try exchanged.floats(), shape: exchanged.shape)
  }

  /// The latents on a device, [images, spatial..., C].
  func tensor(on device: Device) throws -> Tensor {
    try Tensor(values, shape, on: device).transposed([0] + Array(2..<max(shape.rank, 2)) + [1])
  }
}

/// What is seen of one image: a picture, or a video's pictures in time.
public struct Clip: Sendable, Equatable {
  /// At least one; all of one size.
  public var frames: [Picture]
  /// Nil for a still picture.
  public var framesPerSecond: Double?

  /// A clip of these frames; without a frame rate it is a single picture.
  public init(frames: [Picture], framesPerSecond: Double? = nil) {
    precondition(!frames.isEmpty)
    self.frames = frames
    self.framesPerSecond = framesPerSecond
  }

  /// From pixels [F, H, W, 3 or 1], -1...1. Throws as `Picture.init(_:)` does.
  init(_ pixels: Tensor, framesPerSecond: Double?) throws {
    let frames = try (0..<pixels.shape[0]).map { try Picture(pixels.rows($0..<$0 + 1)) }
    guard !frames.isEmpty else { throw ImageError.shape("\(pixels.shape)") }
    self.init(frames: frames, framesPerSecond: framesPerSecond)
  }

  /// The first frame.
  public var picture: Picture { frames[0] }
}

/// What a pipeline made.
public struct GenerationResult: Sendable {
  /// One an image, in the order of the seeds.
  public var clips: [Clip]
  /// The seed of each image.
  public var seeds: [UInt64]
  /// Before decoding: [images, C, spatial...].
  public var latents: HostLatents

  /// The first picture of each image.
  public var pictures: [Picture] { clips.map(\.picture) }
}

/// Where a pipeline is.
public enum GenerationProgress: Sendable {
  /// A setting that has no effect, or was changed: one line for the user.
  case warning(String)
  /// A component is being loaded: `text encoder`, `autoencoder`, `unet`.
  case loading(String)
  /// Text that did not fit into the text encoder's positions.
  case truncated(prompt: String, rest: String)
  /// A trajectory of an image, or of a batch of which it is the first, begins; `name` tells those of one image apart: `unet`, `prior`.
  case sampling(String, image: Int, steps: Int)
  /// A step of image `image` (from 0), or of a batch of which it is the first, is done; `step` counts from 1.
  case step(Int, of: Int, image: Int)
  /// What the denoiser made of image `image` after this step, where previews were asked for. It may be smaller than the
  /// picture: where latents are projected to colours, it has one pixel for each.
  case preview(Picture, step: Int, image: Int)
  /// The latent of an image, [1, spatial..., C], before it is decoded; `HostLatents` reads it.
  case sampled(Tensor, image: Int)
  case decoding(image: Int)
  /// An image is ready; those that follow may still fail or be stopped.
  case finished(Clip, image: Int, seed: UInt64)
}

/// Why a picture could not be generated.
public enum GenerationError: Error, Sendable, Equatable, CustomStringConvertible {
  case badRequest(String)
  /// A pipeline has no use for a setting.
  case unusedOption(String, pipeline: String, used: [String])
  /// NaN or infinity, with the first operation that gave it, where it could be found by repeating the step.
  case nonFinite(stage: String, operation: String)
  /// Another pipeline runs this class of model_index.json.
  case classTaken(String, by: String)

  /// One line that says what to change.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .badRequest(let reason): reason
    case .unusedOption(let option, let pipeline, let used):
      "\(pipeline) has no use for the setting '\(option)' (it takes: \(used.joined(separator: ", ")))"
    case .nonFinite(let stage, let operation):
      "\(stage): the values are no longer finite; first in \(operation). "
        + "Try --precision f32; if that fails too, the checkpoint or the device is at fault"
    case .classTaken(let name, let other):
      "a pipeline cannot run the class '\(name)', which the pipeline \(other) runs already"
    }
  }
}
