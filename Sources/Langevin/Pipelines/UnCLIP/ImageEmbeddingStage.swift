import Foundation
import LangevinModels
import LangevinNN
import LangevinTensor

/// CLIP's image encoder with its preparation: what variations and interpolations start from.
struct ImageEmbeddingStage: Sendable {
  let component: Checkpoint.Component
  let config: CLIPVisionConfig
  let preparation: ImagePreparation

  init(_ checkpoint: Checkpoint) throws {
    component = try checkpoint.component("image_encoder")
    config = try CLIPVisionConfig(component.configuration)
    preparation = try ImagePreparation(
      checkpoint.featureExtractor(),
      path: checkpoint.url.appendingPathComponent("feature_extractor/preprocessor_config.json").path)
  }

  /// One picture is varied; between two, the images of a prompt are the frames of the way, all of one seed.
  ///
  /// Throws `GenerationError.badRequest` for other numbers of pictures, and for a way of one frame.
  static func resolve(_ request: inout GenerationRequest) throws {
    switch request.images.count {
    case 0: throw GenerationError.badRequest("this model makes variations of an image; there is none")
    case 1: break
    case 2:
      guard request.count >= 2 else {
        throw GenerationError.badRequest(
          "the way between two images needs a count of at least 2, got \(request.count)")
      }
      request.sharesSeed = true
    default:
      throw GenerationError.badRequest(
        "\(request.images.count) images; one is varied, and there is a way between two")
    }
  }

  /// Every image's embedding, float32 [1, D]; the encoder is freed.
  func embeddings(as dtype: DType, _ run: GenerationRun) throws -> [Tensor] {
    let request = run.request
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "image_encoder")
    let encoder = try run.load("image encoder") { try CLIPVisionModelWithProjection(config, weights) }
    let given = try request.images.map { picture in
      let input = try preparation([picture], on: run.device).cast(to: dtype)
      return try run.compute("image encoder", "the image encoder") {
        try encoder(input).imageEmbeds.cast(to: .float32)
      }
    }
    guard given.count == 2 else { return run.seeds.map { _ in given[0] } }
    let (a, b) = (try given[0].floats(), try given[1].floats())
    return try run.seeds.indices.map { image in
      let position = Double(image % request.count) / Double(request.count - 1)
      return try Tensor(sphericalInterpolation(a, b, at: position), given[0].shape, on: run.device)
    }
  }
}
