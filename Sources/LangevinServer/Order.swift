import Foundation
import Langevin
import LangevinDiffusion

extension PromptSyntax: Codable {}
extension ImageFit: Codable {}
extension NoiseKind: Codable {}

/// What a job draws: a request in a form that goes to another process. Nil leaves a setting to the model.
struct Order: Codable, Sendable, Equatable {
  /// By its name in the catalog.
  var model: String
  /// As it was written, with the tags of LoRAs in it.
  var prompt = ""
  var negativePrompt = ""
  var promptSyntax = PromptSyntax.plain
  var steps: Int?
  /// By one of its names, which may end in a spacing.
  var sampler: String?
  var spacing: String?
  var guidance: Double?
  var eta: Double?
  var width, height: Int?
  var count = 1
  /// How many pictures are computed at once; nil for all of them.
  var batch: Int?
  /// Picture k has this seed + k.
  var seed: UInt64 = 0
  var rng = NoiseKind.philox
  /// The bytes of a PNG, JPEG or WebP file.
  var image: Data?
  /// White is drawn anew, black is kept.
  var mask: Data?
  var imageFit = ImageFit.crop
  var strength: Double?
  /// Steps between previews; nil for none.
  var previewEvery: Int?

  /// Settings of a request that no order can make.
  static let without: Set<RequestOption> = [
    .canvas, .control, .imagePrompt, .highResolution, .cache, .guidanceRescale, .guidanceInterval,
    .initialLatents,
    .priorSteps,
    .priorGuidance, .superResolutionSteps, .noiseLevel, .frames, .framesPerSecond, .tiling,
  ]

  /// What orders have in common that can be drawn as one batch: all but prompts, seeds and how many pictures. Nil for
  /// one that is drawn alone: of weighted prompts the long ones fill more of a text encoder than the short ones.
  var shared: Order? {
    guard promptSyntax == .plain, image == nil, mask == nil, (batch ?? count) >= count,
      let loras = try? LoRATag.read(prompt)
    else { return nil }
    var shared = self
    shared.prompt = loras.tags.map { "\($0.name)\u{0}\($0.scale)" }.joined(separator: "\u{0}")
    if loras.text.isEmpty { shared.prompt += "\u{0}" }
    (shared.count, shared.batch, shared.seed) = (1, nil, 0)
    return shared
  }

  /// The request that a pipeline of this checkpoint runs. Throws `APIError`, `GenerationError`, `ImageError`.
  func request(for checkpoint: Checkpoint, limits: ServerLimits) throws -> GenerationRequest {
    let text = try LoRATag.read(prompt).text
    var request = GenerationRequest(prompts: text.isEmpty ? [] : [text], recommended: checkpoint.recommended)
    request.negativePrompt = negativePrompt
    request.promptSyntax = promptSyntax
    if let steps { request.steps = steps }
    if let sampler {
      guard let named = SamplerRegistry.named(sampler) else {
        let names = SamplerRegistry.all.map(\.name)
        throw APIError.badRequest(
          "there is no sampler '\(sampler)'\(Suggestion.text(for: sampler, among: names)); there are: "
            + names.joined(separator: ", "))
      }
      request.sampler = named.sampler
      request.levels = named.spacing.map { .sigmas($0) }
    }
    if let spacing {
      guard let levels = NoiseSchedule.Levels(spacing: spacing) else {
        let names = NoiseSchedule.Levels.spacingNames
        throw APIError.badRequest(
          "there is no spacing '\(spacing)'\(Suggestion.text(for: spacing, among: names)); there are: "
            + names.joined(separator: ", "))
      }
      request.levels = levels
    }
    if let guidance { request.guidance = guidance }
    request.eta = eta ?? 0
    (request.width, request.height) = (width, height)
    (request.count, request.batch) = (count, min(batch ?? count, count))
    (request.seed, request.noise) = (seed, rng)
    func picture(_ data: Data, _ name: String) throws -> Picture {
      try Picture.read(data, path: "the \(name)", limits: limits.image).picture
    }
    request.images = try image.map { [try picture($0, "image")] } ?? []
    request.mask = try mask.map { try picture($0, "mask") }
    (request.imageFit, request.strength) = (imageFit, strength)
    request.previewEvery = previewEvery
    return request
  }
}

/// How much a client may ask for.
public struct ServerLimits: Codable, Sendable, Equatable {
  /// Bytes of a request's body.
  public var body = 32 << 20
  /// Width times height of one picture, drawn or sent.
  public var pixels = 1 << 22
  /// Pictures of one job.
  public var pictures = 16
  /// Sampling steps of a picture.
  public var steps = 500

  /// The defaults.
  public init() {}

  var image: ImageLimits {
    var limits = ImageLimits()
    limits.pixels = pixels
    return limits
  }
}
