import LangevinDiffusion
import LangevinModels
import LangevinTensor

/// What a transformer over a picture's and a text's tokens is conditioned on, one row an image.
struct JointConditioning: NetworkInput {
  /// The text encoders' states, [N, T, C].
  var text: Tensor
  /// Their pooled vectors, [N, P].
  var pooled: Tensor

  static func joined(_ parts: [JointConditioning]) throws -> JointConditioning {
    JointConditioning(text: try .joined(parts.map(\.text)), pooled: try .joined(parts.map(\.pooled)))
  }
}

/// What the prompts and the picture of a request became.
public struct JointPrompts {
  /// One for each prompt.
  var inputs: [Conditioned<JointConditioning>]
  /// What sampling starts from.
  var start: EncodedStart
}

extension LatentRequest {
  /// The way of each batch from where the request starts, by a network that reads nothing but latents, time and text.
  /// `guidance` is the request's, or none.
  func trajectories(
    _ conditioning: JointPrompts, _ guidance: Guidance, _ prediction: Prediction,
    _ autoencoder: AutoencoderStage, _ run: GenerationRun,
    bind: @escaping (JointConditioning) throws -> Network
  ) -> TrajectoryMaker {
    { [sampling, latentShape] images in
      let start = try run.drawing(for: images) { noise in
        try conditioning.start.prepare(images, latentShape, along: sampling.schedule, autoencoder, &noise)
      }
      let texts = try Conditioned.joined(images.map { conditioning.inputs[run.request.prompt(of: $0)] })
      let denoiser = try guidance.denoiser(prediction, on: texts, bind)
      return Trajectory("transformer", of: images, by: sampling, denoiser: denoiser, adjust: start.adjust) {
        _ in start.latent
      }
    }
  }
}

extension Checkpoint.Component {
  /// Throws `ModelError.unsupported` for the first setting that does not fit the other components.
  func require(_ settings: (key: String, found: Int, expected: Int)...) throws {
    for (key, found, expected) in settings where found != expected {
      throw ModelError.unsupported(
        model: className, key: key, value: "\(found)", supported: ["\(expected)"])
    }
  }
}

extension SchedulerFile {
  /// Throws `ModelError.unsupported` for a network that was not trained along a flow.
  func requireFlow() throws {
    guard noise.prediction == .flow else {
      throw ModelError.unsupported(
        model: "the scheduler", key: "prediction_type", value: noise.prediction.rawValue,
        supported: [Prediction.flow.rawValue])
    }
  }
}
