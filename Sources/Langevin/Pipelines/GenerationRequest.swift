import LangevinDiffusion
import LangevinTensor

/// What to generate. Everything is checked before any network is loaded.
public struct GenerationRequest: Sendable {
  /// What to draw.
  public var prompt: String
  /// What to steer away from; used where guidance is above 1.
  public var negativePrompt = ""
  /// The scale of classifier-free guidance (arXiv:2207.12598); 1 or less runs the prompt alone.
  public var guidance = 7.5
  /// Sampling steps, 1...10000; with `image` only the last `strength` of them run.
  public var steps = 30
  /// Which way from noise to the latent.
  public var sampler = Sampler.ddim
  /// DDIM's share of fresh noise, 0...1 (arXiv:2010.02502, eq. 16).
  public var eta = 0.0
  /// Image k of a batch has seed + k.
  public var seed: UInt64 = 0
  /// Whose random numbers.
  public var noise = NoiseKind.philox
  /// Pixels; nil for the size that the model was made for, or that of `image`.
  public var width: Int?
  /// Pixels, as `width`.
  public var height: Int?
  /// How many images, 1...10000.
  public var count = 1
  /// Starts from this picture instead of from noise.
  public var image: Picture?
  /// The share of the schedule that is run on `image`, 0...1.
  public var strength = 0.7
  /// Replaces the initial noise: [count, C, h, w].
  public var initialLatents: HostLatents?

  /// A request with what a model recommends (`Checkpoint.recommended`) and the defaults of every other setting.
  public init(prompt: String, recommended: RecommendedSettings = RecommendedSettings()) {
    self.prompt = prompt
    guidance = recommended.guidance ?? guidance
    steps = recommended.steps ?? steps
    sampler = recommended.sampler ?? sampler
  }
}

/// Latents in the field's exchange layout.
public struct HostLatents: Sendable, Equatable {
  /// Float32, [count, C, h, w].
  public var values: [Float]
  /// [count, C, h, w].
  public var shape: Shape

  /// Latents of these values; a request checks that their number fits the shape.
  public init(values: [Float], shape: Shape) {
    self.values = values
    self.shape = shape
  }

  /// From channels last, [count, h, w, C].
  init(_ latent: Tensor) throws {
    let exchanged = try latent.cast(to: .float32).transposed([0, 3, 1, 2])
    self.init(values: try exchanged.floats(), shape: exchanged.shape)
  }

  /// To channels last.
  func tensor(on device: Device) throws -> Tensor {
    try Tensor(values, shape, on: device).transposed([0, 2, 3, 1])
  }
}

/// What a pipeline made.
public struct GenerationResult: Sendable {
  /// In the order of the seeds.
  public var pictures: [Picture]
  /// One an image.
  public var seeds: [UInt64]
  /// Before decoding.
  public var latents: HostLatents
}

/// Where a pipeline is.
public enum GenerationProgress: Sendable {
  /// A component is being loaded: `text encoder`, `autoencoder`, `unet`.
  case loading(String)
  /// Text that did not fit into the text encoder's positions.
  case truncated(prompt: String, rest: String)
  /// An image's sampling begins.
  case sampling(image: Int, steps: Int)
  /// A step of image `image` (from 0) is done; `step` counts from 1.
  case step(Int, of: Int, image: Int)
  case decoding(image: Int)
  /// An image is ready; those that follow may still fail or be stopped.
  case finished(Picture, image: Int, seed: UInt64)
}

/// Why a picture could not be generated.
public enum GenerationError: Error, Sendable, Equatable, CustomStringConvertible {
  case badRequest(String)
  /// NaN or infinity, with the first operation that gave it, where it could be found by repeating the step.
  case nonFinite(stage: String, operation: String)

  /// One line that says what to change.
  public var description: String {
    switch self {
    case .badRequest(let reason): reason
    case .nonFinite(let stage, let operation):
      "\(stage): the values are no longer finite; first in \(operation). "
        + "Try --precision f32; if that fails too, the checkpoint or the device is at fault"
    }
  }
}
