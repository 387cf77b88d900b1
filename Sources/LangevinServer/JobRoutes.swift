import Foundation
import HTTPTypes
import Hummingbird
import Langevin
import LangevinJSON
import LangevinTensor

/// The native API: jobs, their events and pictures.
struct JobRoutes: Sendable {
  let drawing: Drawing
  private var queue: JobQueue { drawing.queue }

  func add(to router: Router<ServerContext>) {
    let jobs = router.group("/v1/jobs")
    jobs.post { request, _ in
      let order = try Self.order(try await drawing.reader.bytes(request.body, request.headers))
      let job = try await drawing.submit(order, origin: "v1")
      var response = Response.json(Self.json(job), status: .accepted)
      response.headers[.location] = "/v1/jobs/\(job.id)"
      return response
    }
    jobs.get { _, _ in
      Response.json(.members(["jobs": .array(await queue.all.prefix(100).map { Self.json($0) })]))
    }
    jobs.get(":id") { _, context in Response.json(Self.json(try await job(context))) }
    jobs.delete(":id") { _, context in
      try await queue.cancel(try context.parameters.require("id"))
      return Response.json(Self.json(try await job(context)))
    }
    jobs.get(":id/events") { request, context in
      let job = try await job(context)
      let cancels = request.uri.queryParameters["cancel_on_close"] == "true"
      return events(of: job, try await context.departure, cancels: cancels)
    }
    jobs.get(":id/pictures/:index") { _, context in
      let job = try await job(context)
      let text: String = try context.parameters.require("index")
      let pictures = job.status.pictures
      guard let index = Int(text), pictures.indices.contains(index) else {
        throw APIError.notFound("the job '\(job.id)' has no picture '\(text.shortened(to: 20))'")
      }
      return Response(
        status: .ok, headers: [.contentType: "image/png", .cacheControl: "private, max-age=3600"],
        body: ResponseBody(byteBuffer: ByteBuffer(bytes: pictures[index].png)))
    }
  }

  private func job(_ context: ServerContext) async throws -> Job {
    try await queue.job(try context.parameters.require("id"))
  }

  // MARK: What comes in

  /// Throws `APIError`, also for a field that there is not.
  static func order(_ body: [UInt8]) throws -> Order {
    var fields = try Fields(json: body)
    var order = try Self.order(&fields)
    order.image = try fields.file("image")
    order.mask = try fields.file("mask")
    order.previewEvery = try fields.integer("preview_every")
    try fields.refuseUnread()
    return order
  }

  /// The settings that have the same names in every API of this server's own.
  static func order(_ fields: inout Fields) throws -> Order {
    var order = Order(model: try fields.string("model") ?? "")
    order.prompt = try fields.string("prompt") ?? ""
    order.negativePrompt = try fields.string("negative_prompt") ?? ""
    func choice<Choice: RawRepresentable & CaseIterable>(_ name: String, or choice: Choice) throws -> Choice
    where Choice.RawValue == String {
      let text = try fields.string(name, of: Choice.allCases.map(\.rawValue))
      return text.flatMap(Choice.init) ?? choice
    }
    order.promptSyntax = try choice("prompt_syntax", or: .plain)
    order.steps = try fields.integer("steps")
    order.sampler = try fields.string("sampler")
    order.spacing = try fields.string("spacing")
    order.guidance = try fields.number("guidance")
    order.eta = try fields.number("eta")
    order.width = try fields.integer("width")
    order.height = try fields.integer("height")
    order.count = try fields.integer("count") ?? 1
    order.batch = try fields.integer("batch")
    order.seed = try fields.seed("seed") ?? .random(in: 0..<1 << 32)
    order.rng = try choice("rng", or: .philox)
    order.imageFit = try choice("image_fit", or: .crop)
    order.strength = try fields.number("strength")
    return order
  }

  // MARK: What goes out

  static func json(_ job: Job) -> StrictJSON {
    let status = job.status
    let order = job.order
    func seconds(_ date: Date?) -> StrictJSON? {
      date.map { .real(($0.timeIntervalSince1970 * 1000).rounded() / 1000) }
    }
    return .members([
      "id": .string(job.id), "state": .string(status.state.rawValue), "place": .integer(status.place),
      "progress": .real(job.fraction), "step": .integer(status.step), "steps": .integer(status.steps),
      "image": .integer(status.image), "loading": status.loading.map { .string($0) },
      "model": .string(order.model), "prompt": .string(order.prompt), "seed": .number("\(order.seed)"),
      "count": .integer(order.count), "warnings": .strings(status.warnings),
      "pictures": .array(status.pictures.indices.map { json(status.pictures[$0], $0, of: job) }),
      "error": status.error.map { .string($0.message) }, "created": seconds(status.created),
      "started": seconds(status.started), "ended": seconds(status.ended),
    ])
  }

  private static func json(_ picture: DrawnPicture, _ index: Int, of job: Job) -> StrictJSON {
    .members([
      "index": .integer(index), "url": .string("/v1/jobs/\(job.id)/pictures/\(index)"),
      "seed": .number("\(picture.seed)"), "width": .integer(picture.width),
      "height": .integer(picture.height),
      "text": .string(picture.text),
    ])
  }

  /// Server-sent events until the job ends; a comment every few seconds shows a dead connection.
  private func events(of job: Job, _ departure: Departure, cancels: Bool) -> Response {
    let body = ResponseBody { writer in
      do {
        try await departure.watching {
          for await event in Self.beating(job.events()) {
            let text = event.map { Self.text($0, of: job) } ?? ": still here\n\n"
            // A reader that is gone may be seen before it is known.
            if departure.isGone { throw CancellationError() }
            try await writer.write(ByteBuffer(string: text))
          }
          try Task.checkCancellation()
        } left: {
          if cancels { Task { await queue.cancel(job) } }
        }
      } catch {
        if cancels { await queue.cancel(job) }
        throw error
      }
      try await writer.finish(nil)
    }
    return Response(
      status: .ok,
      headers: [.contentType: "text/event-stream", HTTPField.Name("X-Accel-Buffering")!: "no"], body: body
    )
  }

  /// With nil every few seconds.
  private static func beating(_ events: AsyncStream<JobEvent>) -> AsyncStream<JobEvent?> {
    AsyncStream { continuation in
      let beat = Task {
        while !Task.isCancelled {
          try await Task.sleep(for: .seconds(10))
          continuation.yield(nil)
        }
      }
      let forward = Task {
        for await event in events { continuation.yield(event) }
        beat.cancel()
        continuation.finish()
      }
      continuation.onTermination = { _ in
        beat.cancel()
        forward.cancel()
      }
    }
  }

  private static func text(_ event: JobEvent, of job: Job) -> String {
    let (name, data): (String, StrictJSON)
    switch event {
    case .queued(let place): (name, data) = ("queued", .members(["place": .integer(place)]))
    case .started: (name, data) = ("started", .members(["id": .string(job.id)]))
    case .loading(let component): (name, data) = ("loading", .members(["component": .string(component)]))
    case .warning(let line): (name, data) = ("warning", .members(["message": .string(line)]))
    case .progress:
      let status = job.status
      (name, data) = (
        "progress",
        .members([
          "progress": .real(job.fraction), "step": .integer(status.step), "steps": .integer(status.steps),
          "image": .integer(status.image),
        ])
      )
    case .preview(let png, let image):
      (name, data) = (
        "preview",
        .members([
          "index": .integer(image),
          "image": .string("data:image/png;base64," + png.base64EncodedString()),
        ])
      )
    case .picture(let index):
      let pictures = job.status.pictures
      (name, data) = (
        "picture", pictures.indices.contains(index) ? json(pictures[index], index, of: job) : .null
      )
    case .ended: (name, data) = (job.status.state.rawValue, json(job))
    }
    return "event: \(name)\ndata: \(data.text)\n\n"
  }
}
