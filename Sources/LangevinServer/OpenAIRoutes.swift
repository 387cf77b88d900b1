import Foundation
import HTTPTypes
import Hummingbird
import Langevin
import LangevinJSON
import LangevinTensor

/// OpenAI's images API, as its clients use it; settings of this server's own may come along.
struct OpenAIRoutes: Sendable {
  let drawing: Drawing

  /// How pictures go back.
  private enum Form: Sendable { case base64, url }

  func add(to router: Router<ServerContext>) {
    router.post("/v1/images/generations") { request, context in
      let (job, status, form) = try await drawing.draw(request, context, origin: "openai") { body in
        var fields = try Fields(json: body)
        return try Self.order(&fields)
      }
      return Self.response(job, status, form, request)
    }
    router.post("/v1/images/edits") { request, context in
      let (job, status, form) = try await drawing.draw(request, context, origin: "openai") { body in
        guard let boundary = request.headers[.contentType].flatMap(Multipart.boundary) else {
          throw APIError.badRequest("the body must be multipart/form-data with a boundary")
        }
        return try edit(Multipart(body, boundary: boundary).parts)
      }
      return Self.response(job, status, form, request)
    }
  }

  private static func order(_ fields: inout Fields) throws -> (Order, Form) {
    var order = try JobRoutes.order(&fields)
    if let count = try fields.integer("n") { order.count = count }
    if let size = try fields.string("size"), size != "auto" {
      let sides = size.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
      guard sides.count == 2, sides.allSatisfy({ $0 > 0 }) else {
        throw APIError.badRequest("'size' must be WIDTHxHEIGHT or auto, got '\(size.shortened(to: 40))'")
      }
      (order.width, order.height) = (sides[0], sides[1])
    }
    let form = try fields.string("response_format", of: ["b64_json", "url"])
    if let format = try fields.string("output_format"), format != "png" {
      throw APIError.badRequest("'output_format' must be png, got '\(format.shortened(to: 40))'")
    }
    if try fields.bool("stream") == true {
      throw APIError.badRequest("'stream' is not served here; /v1/jobs has events")
    }
    // They mean nothing to a diffusion model, and clients send them.
    for name in [
      "quality", "style", "user", "background", "moderation", "output_compression", "partial_images",
      "input_fidelity",
    ] { _ = fields.value(name) }
    try fields.refuseUnread()
    return (order, form == "url" ? .url : .base64)
  }

  private func edit(_ parts: [Multipart.Part]) throws -> (Order, Form) {
    var texts: [(name: String, text: String)] = []
    var files: [String: [Data]] = [:]
    for part in parts {
      if part.isFile {
        files[part.name, default: []].append(part.data)
      } else {
        guard let text = part.text else {
          throw APIError.badRequest("the form's '\(part.name)' is no UTF-8 text")
        }
        texts.append((part.name, text))
      }
    }
    if let name = files.keys.sorted().first(where: { !["image", "image[]", "mask"].contains($0) }) {
      throw APIError.badRequest("the form has a file '\(name.shortened(to: 40))'; there are: image, mask")
    }
    let images = (files["image"] ?? []) + (files["image[]"] ?? [])
    guard images.count == 1 else {
      throw APIError.badRequest("the form must have one file 'image', got \(images.count)")
    }
    var fields = Fields(form: texts)
    var (order, form) = try Self.order(&fields)
    order.image = images[0]
    order.mask = try files["mask"]?.first.map { try mask($0) }
    return (order, form)
  }

  /// OpenAI's masks are transparent where the picture is drawn anew; the pipelines' are white there.
  private func mask(_ file: Data) throws -> Data {
    do {
      let layers = try Picture.read(file, path: "the mask", limits: drawing.catalog.limits.image, .apart)
      guard let alpha = layers.alpha else {
        throw APIError.badRequest(
          "the mask has no transparency: it must be transparent where the image is drawn anew")
      }
      return try Picture(
        width: alpha.width, height: alpha.height, pixels: alpha.pixels.map { 255 - $0 }
      ).png()
    } catch let error as ImageError {
      throw APIError.badRequest("\(error)")
    }
  }

  private static func response(_ job: Job, _ status: JobStatus, _ form: Form, _ request: Request) -> Response
  {
    let data = status.pictures.enumerated().map { index, picture -> StrictJSON in
      switch form {
      case .base64: .members(["b64_json": .string(picture.png.base64EncodedString())])
      case .url:
        .members([
          "url": .string("http://\(request.head.authority ?? "")/v1/jobs/\(job.id)/pictures/\(index)")
        ])
      }
    }
    let size = status.pictures.first.map { "\($0.width)x\($0.height)" }
    return Response.json(
      .members([
        "created": .integer(Int(status.created.timeIntervalSince1970)), "output_format": .string("png"),
        "size": size.map { .string($0) }, "data": .array(data),
      ]))
  }
}
