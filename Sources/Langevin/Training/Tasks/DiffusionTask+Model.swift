import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

extension DiffusionTask {
  public func model(_ weights: NetworkWeights) throws -> ModelFolderWriter {
    var writer = try ModelFolderWriter(copying: context.model)
    writer.set("unet", .network(config: unet.config, weights: try weights("unet")))
    // It says what the network has learnt to say.
    if settings.prediction != nil {
      writer.set("scheduler", .scheduler(try StrictJSON(parsing: Array(checkpoint.scheduler))))
    }
    if settings.trainTextEncoder, let text {
      writer.set(
        "text_encoder", .network(config: text.component.config, weights: try weights("text_encoder")))
    }
    // Where the folder had no weights of it, they come from the data.
    if let normalizer = image?.normalizer {
      writer.set("image_normalizer", try part(normalizer, normalizer.weights))
    }
    return writer
  }

  private func part(_ component: Checkpoint.Component, _ weights: any WeightSource) throws
    -> ModelFolderWriter.Part
  {
    .network(
      config: component.config,
      tensors: try weights.names.map { ($0, try weights.load($0, on: context.device)) })
  }

  /// One picture of each prompt, of a model without text four, by the model's own pipeline; all of seed 1. With image
  /// embeddings, pictures of the data and beneath each a variation of it, to the first prompt.
  public func samples(_ weights: NetworkWeights, _ check: () throws -> Void) throws -> Picture? {
    guard text == nil || image != nil || !settings.prompts.isEmpty else { return nil }
    var networks = [
      "unet": Checkpoint.Component(unet.className, config: unet.config, weights: try weights("unet"))
    ]
    if settings.trainTextEncoder, let text {
      networks["text_encoder"] = Checkpoint.Component(
        text.component.className, config: text.component.config, weights: try weights("text_encoder"))
    }
    if let image { networks["image_normalizer"] = image.normalizer }
    return try samples(of: checkpoint.replacing(components: networks), check)
  }

  /// Of this model in the place of the task's. `check` is called at every step of every picture.
  func samples(of checkpoint: Checkpoint, _ check: () throws -> Void) throws -> Picture {
    let pipeline = try Pipelines.open(checkpoint, on: context.device)
    var request = sampleRequest
    if let examples = try image?.embeddings.examples(4) {
      request.prompts = Array(settings.prompts.prefix(1))
      let variations = try examples.flatMap { example in
        request.images = [example]
        return try pipeline.generate(request) { _ in try check() }.pictures
      }
      return try .grid(examples + variations, columns: examples.count)
    }
    let pictures = try pipeline.generate(request) { _ in try check() }.pictures
    return try .grid(pictures, columns: max(1, Int(Double(pictures.count).squareRoot().rounded(.up))))
  }

  /// What `samples` draws.
  var sampleRequest: GenerationRequest {
    var request = GenerationRequest(prompts: settings.prompts, recommended: checkpoint.recommended)
    if text == nil { (request.prompts, request.count) = ([], 4) }
    request.guidance = text == nil ? nil : settings.guidance ?? request.guidance
    request.steps = settings.sampleSteps ?? request.steps
    (request.width, request.height) = (context.settings.width, context.settings.height)
    (request.seed, request.sharesSeed) = (1, text != nil)
    return request
  }
}
