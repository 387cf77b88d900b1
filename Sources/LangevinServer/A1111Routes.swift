import Foundation
import HTTPTypes
import Hummingbird
import Langevin
import LangevinDiffusion
import LangevinJSON
import Synchronization

/// The API of AUTOMATIC1111's web UI, as its clients use it.
struct A1111Routes: Sendable {
  let drawing: Drawing
  private let options: A1111Options
  private var queue: JobQueue { drawing.queue }

  init(_ drawing: Drawing) {
    self.drawing = drawing
    options = A1111Options()
  }

  func add(to router: Router<ServerContext>) {
    let api = router.group("/sdapi/v1")
    api.post("txt2img") { request, context in
      try await draw(request, context) { try A1111Request(&$0, default: options.model, isImage: false) }
    }
    api.post("img2img") { request, context in
      try await draw(request, context) { try A1111Request(&$0, default: options.model, isImage: true) }
    }
    api.get("progress") { _, _ in Response.json(await progress()) }
    api.post("interrupt") { _, _ in
      await queue.interrupt(origin: "sdapi")
      return Response.json(.object([]))
    }
    api.get("options") { _, _ in
      let model = options.model ?? drawing.catalog.models.first?.name ?? ""
      return Response.json(
        .members(["sd_model_checkpoint": .string(model), "samples_format": .string("png")]))
    }
    api.post("options") { request, _ in
      var fields = try Fields(json: try await drawing.reader.bytes(request.body, request.headers))
      if let title = try fields.string("sd_model_checkpoint") {
        options.model = try drawing.catalog.model(Self.name(title)).name
      }
      return Response.json(.null)
    }
    api.get("samplers") { _, _ in
      Response.json(
        .array(
          SamplerRegistry.all.map { sampler in
            .members([
              "name": .string(sampler.title), "aliases": .strings([sampler.name] + sampler.aliases),
              "options": .object([]),
            ])
          }))
    }
    api.get("schedulers") { _, _ in
      Response.json(
        .array(
          [.members(["name": .string("automatic"), "label": .string("Automatic")])]
            + NoiseSchedule.Levels.spacingNames.map {
              .members(["name": .string($0), "label": .string($0.capitalized)])
            }))
    }
    api.get("sd-models") { _, _ in
      Response.json(
        .array(
          drawing.catalog.models.map { model in
            .members([
              "title": .string(model.name), "model_name": .string(model.name), "hash": .null, "sha256": .null,
              "filename": .string(model.url?.lastPathComponent ?? model.name), "config": .null,
            ])
          }))
    }
    api.get("loras") { _, _ in
      Response.json(
        .array(
          drawing.catalog.loraFiles.map { file in
            let name = file.deletingPathExtension().lastPathComponent
            return .members([
              "name": .string(name), "alias": .string(name), "path": .string(file.lastPathComponent),
              "metadata": .object([]),
            ])
          }))
    }
    // None is what A1111 calls no upscaler; no other is served.
    api.get("upscalers") { _, _ in
      Response.json(
        .array([
          .members([
            "name": .string("None"), "model_name": .null, "model_path": .null, "model_url": .null,
            "scale": .integer(1),
          ])
        ]))
    }
    api.post("png-info") { request, _ in
      var fields = try Fields(json: try await drawing.reader.bytes(request.body, request.headers))
      guard let image = try fields.file("image") else { throw APIError.badRequest("there is no 'image'") }
      let text = try PictureText.read(image, drawing.catalog.limits)
      let parameters = PictureParameters(parsing: text)
      let values = parameters.fields.map { StrictJSON.Member($0.name, .string($0.value)) }
      return Response.json(
        .members([
          "info": .string(text), "items": .members(["parameters": .string(text)]),
          "parameters": .object(
            [
              .init("Prompt", .string(parameters.prompt)),
              .init("Negative prompt", .string(parameters.negativePrompt)),
            ]
              + values.filter { !["Prompt", "Negative prompt"].contains($0.key) }),
        ]))
    }
  }

  /// A title may end in a hash: `name [0123456789]`.
  fileprivate static func name(_ title: String) -> String {
    guard title.hasSuffix("]"), let start = title.range(of: " [", options: .backwards) else { return title }
    return String(title[..<start.lowerBound])
  }

  private func draw(
    _ request: Request, _ context: ServerContext, _ read: @Sendable (inout Fields) throws -> A1111Request
  ) async throws -> Response {
    let (_, status, asked) = try await drawing.draw(request, context, origin: "sdapi", partial: true) {
      body in
      var fields = try Fields(json: body)
      let asked = try read(&fields)
      return (asked.order, asked)
    }
    return Response.json(asked.json(status))
  }

  private func progress() async -> StrictJSON {
    let running = await queue.active.filter { $0.status.state == .running }
    let job = running.first { $0.origin == "sdapi" } ?? running.first
    let status = job?.status
    let fraction = job?.fraction ?? 0
    let elapsed = status?.started.map { Date().timeIntervalSince($0) } ?? 0
    let left = fraction > 0 ? elapsed * (1 - fraction) / fraction : 0
    return .members([
      "progress": .real(fraction), "eta_relative": .real(left),
      "state": .members([
        "skipped": .bool(false), "interrupted": .bool(false), "job": .string(job?.id ?? ""),
        "job_count": .integer(job?.order.count ?? 0), "job_timestamp": .string("0"),
        "job_no": .integer(status?.image ?? 0), "sampling_step": .integer(status?.step ?? 0),
        "sampling_steps": .integer(status?.steps ?? 0),
      ]),
      "current_image": status?.preview.map { .string($0.base64EncodedString()) } ?? .null,
      "textinfo": .null,
    ])
  }
}

/// What A1111's clients set once for all.
private final class A1111Options: Sendable {
  private let chosen = Mutex<String?>(nil)
  var model: String? {
    get { chosen.withLock { $0 } }
    set { chosen.withLock { $0 = newValue } }
  }
}

/// A request of A1111's web UI: what it draws, and which of its fields mean nothing here.
struct A1111Request: Sendable {
  var order: Order
  let ignored: [String]
  private let sendsImages: Bool
  private let parameters: StrictJSON

  /// The schedule that `Automatic` is, where it is not the sampler's own.
  private static let automatic = ["DPM++ 2M": "karras", "DPM++ SDE": "karras", "DPM++ 2M SDE": "exponential"]

  init(_ fields: inout Fields, default model: String?, isImage: Bool) throws {
    order = Order(model: model ?? "")
    order.prompt = try fields.string("prompt") ?? ""
    order.negativePrompt = try fields.string("negative_prompt") ?? ""
    // As the web UI reads prompts, and draws noise on the graphics cards that it is used with.
    (order.promptSyntax, order.rng) = (.a1111, .torchCUDA)
    order.steps = try fields.integer("steps")
    order.guidance = try fields.number("cfg_scale")
    order.eta = try fields.number("eta")
    order.seed = try fields.seed("seed") ?? .random(in: 0..<1 << 32)
    let batch = try fields.integer("batch_size") ?? 1
    let repeats = try fields.integer("n_iter") ?? 1
    let (count, overflow) = batch.multipliedReportingOverflow(by: repeats)
    guard batch > 0, repeats > 0, !overflow else {
      throw APIError.badRequest("'batch_size' and 'n_iter' must be at least 1, got \(batch) and \(repeats)")
    }
    (order.count, order.batch) = (count, batch)
    (order.width, order.height) = (try fields.integer("width"), try fields.integer("height"))
    let name = try fields.string("sampler_name")
    let index = try fields.string("sampler_index")
    order.sampler = name ?? index
    try Self.readScheduler(try fields.string("scheduler"), &order)
    if var settings = try fields.fields("override_settings") {
      if let title = try settings.string("sd_model_checkpoint") { order.model = A1111Routes.name(title) }
    }
    sendsImages = try fields.bool("send_images") ?? true
    if isImage {
      let images = try fields.files("init_images")
      guard images.count == 1 else {
        throw APIError.badRequest("'init_images' must have one picture, got \(images.count)")
      }
      order.image = images[0]
      order.strength = try fields.number("denoising_strength") ?? 0.75
      order.mask = try fields.file("mask")
      if let mask = order.mask, try (fields.integer("inpainting_mask_invert") ?? 0) != 0 {
        order.mask = try Self.inverted(mask)
      }
      let modes: [Int: ImageFit] = [0: .stretch, 1: .crop, 2: .pad]
      let mode = try fields.integer("resize_mode") ?? 0
      guard let fit = modes[mode] else {
        throw APIError.badRequest("'resize_mode' must be 0 (stretch), 1 (crop) or 2 (pad), got \(mode)")
      }
      order.imageFit = fit
    }
    ignored = fields.unread.sorted()
    parameters = .members([
      "prompt": .string(order.prompt), "negative_prompt": .string(order.negativePrompt),
      "seed": .number("\(order.seed)"), "steps": order.steps.map { .integer($0) },
      "cfg_scale": order.guidance.map { .real($0) }, "batch_size": .integer(batch),
      "n_iter": .integer(repeats),
      "width": order.width.map { .integer($0) }, "height": order.height.map { .integer($0) },
      "sampler_name": order.sampler.map { .string($0) },
    ])
  }

  private static func readScheduler(_ label: String?, _ order: inout Order) throws {
    let named = order.sampler.flatMap { SamplerRegistry.named($0) }
    switch label?.lowercased() {
    case nil, "automatic":
      guard let named, named.spacing == nil else { return }
      order.spacing = automatic[named.sampler.title]
    case "uniform": break
    case let other?:
      let name = other.replacing(" ", with: "_")
      order.spacing = PictureParameters.spacing(name) ?? name
    }
  }

  private static func inverted(_ mask: Data) throws -> Data {
    do {
      let picture = try Picture.read(mask, path: "the mask", limits: ImageLimits()).picture
      return try Picture(
        width: picture.width, height: picture.height, pixels: picture.pixels.map { 255 - $0 }
      ).png()
    } catch {
      throw APIError.badRequest("\(error)")
    }
  }

  func json(_ status: JobStatus) -> StrictJSON {
    let texts = status.pictures.map(\.text)
    let info = StrictJSON.members([
      "prompt": .string(order.prompt), "negative_prompt": .string(order.negativePrompt),
      "seed": .number("\(order.seed)"), "all_seeds": .array(status.pictures.map { .number("\($0.seed)") }),
      "width": status.pictures.first.map { .integer($0.width) },
      "height": status.pictures.first.map { .integer($0.height) },
      "infotexts": .strings(texts), "warnings": .strings(status.warnings), "ignored": .strings(ignored),
      "interrupted": .bool(status.state == .cancelled),
    ])
    return .members([
      "images": sendsImages ? .strings(status.pictures.map { $0.png.base64EncodedString() }) : .array([]),
      "parameters": parameters, "info": .string(info.text),
    ])
  }
}

/// The settings that a picture's file carries.
enum PictureText {
  /// Empty where there are none. Throws `APIError` for what is no picture.
  static func read(_ file: Data, _ limits: ServerLimits) throws -> String {
    do {
      return try Picture.read(file, path: "the image", limits: limits.image).texts[PictureParameters.keyword]
        ?? ""
    } catch {
      throw APIError.badRequest("\(error)")
    }
  }
}
