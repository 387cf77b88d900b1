import Foundation
import HTTPTypes
import Hummingbird
import Langevin
import LangevinDiffusion
import LangevinJSON
import LangevinTensor

/// What there is: models, samplers, LoRAs, devices, health, numbers, and the page.
struct ServiceRoutes: Sendable {
  let drawing: Drawing
  let metrics: Metrics
  /// What draws.
  let devices: [String]
  let version: String
  let survey: Survey

  func add(to router: Router<ServerContext>) {
    router.get("/health") { _, _ in
      let depth = await drawing.queue.depth
      return Response.json(
        .members([
          "status": .string(depth.isDraining ? "draining" : "ok"), "queue_depth": .integer(depth.waiting),
          "running": .integer(depth.running), "queue_limit": .integer(drawing.queue.limit),
          "version": .string(version),
        ]), status: depth.isDraining ? .serviceUnavailable : .ok)
    }
    router.get("/metrics") { _, _ in
      Response(
        status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
        body: ResponseBody(byteBuffer: ByteBuffer(string: metrics.text(await drawing.queue.depth))))
    }
    router.get("/v1/models") { _, _ in
      Response.json(
        .members(["object": .string("list"), "data": .array(drawing.catalog.models.map { Self.json($0) })]))
    }
    router.get("/v1/models/**") { _, context in
      let name = context.parameters.getCatchAll().joined(separator: "/")
      guard let model = drawing.catalog.models.first(where: { $0.name == name.removingPercentEncoding })
      else {
        _ = try drawing.catalog.model(name)
        throw APIError.notFound("there is no model '\(name.shortened(to: 80))'")
      }
      return Response.json(Self.json(model))
    }
    router.get("/v1/samplers") { _, _ in
      Response.json(
        .members([
          "samplers": .array(
            SamplerRegistry.all.map { sampler in
              .members([
                "name": .string(sampler.name), "title": .string(sampler.title),
                "purpose": .string(sampler.purpose), "spacings": .strings(sampler.spacings),
              ])
            })
        ]))
    }
    router.get("/v1/loras") { _, _ in
      Response.json(
        .members([
          "loras": .strings(drawing.catalog.loraFiles.map { $0.deletingPathExtension().lastPathComponent })
        ]))
    }
    router.get("/v1/devices") { _, _ in
      Response.json(.members(["drawing": .strings(devices), "found": try await survey.found]))
    }
    router.post("/v1/png-info") { request, _ in
      let file = Data(try await drawing.reader.bytes(request.body, request.headers))
      return Response.json(Self.settings(try PictureText.read(file, drawing.catalog.limits)))
    }
    for file in PageFile.all {
      router.get(RouterPath(file.path)) { _, _ in file.response }
    }
  }

  /// A model as OpenAI's clients list it, with the settings that it has and their values where a request is silent.
  private static func json(_ model: Catalog.Model) -> StrictJSON {
    var members: [StrictJSON.Member] = [
      .init("id", .string(model.name)), .init("object", .string("model")), .init("created", .integer(0)),
      .init("owned_by", .string("langevin")),
    ]
    switch model.opened {
    case .failure(let failure): members.append(.init("error", .string(failure.message)))
    case .success(let opened):
      let options = opened.options.subtracting(Order.without).map(\.rawValue).sorted()
      members.append(.init("pipeline", .string(opened.checkpoint.pipeline)))
      members.append(.init("settings", .strings(options)))
      let prompts = opened.options.contains(.prompt) ? ["a"] : []
      let asked = GenerationRequest(prompts: prompts, recommended: opened.checkpoint.recommended)
      if let request = try? opened.pipeline.resolved(asked).request {
        members.append(
          .init(
            "defaults",
            .members([
              "width": request.width.map { .integer($0) }, "height": request.height.map { .integer($0) },
              "steps": request.steps.map { .integer($0) }, "guidance": request.guidance.map { .real($0) },
              "sampler": request.sampler.map { .string($0.name) },
            ])))
      }
    }
    return .object(members)
  }

  /// What a picture's text says, under the names of the native API.
  private static func settings(_ text: String) -> StrictJSON {
    guard !text.isEmpty else { return .members(["text": .string(""), "settings": .object([])]) }
    let parameters = PictureParameters(parsing: text)
    let sides = parameters["Size"]?.split(separator: "x").compactMap { Int($0) } ?? []
    func whole(_ name: String) -> StrictJSON? { parameters[name].flatMap { Int($0) }.map { .integer($0) } }
    func real(_ name: String) -> StrictJSON? {
      parameters[name].flatMap { Double($0) }.flatMap { $0.isFinite ? .real($0) : nil }
    }
    let noise = ["Philox": "philox", "CPU": "torch", "NV": "torch-cuda"]
    return .members([
      "text": .string(text),
      "settings": .members([
        "prompt": .string(parameters.prompt), "negative_prompt": .string(parameters.negativePrompt),
        "steps": whole("Steps"), "guidance": real("CFG scale"),
        "sampler": parameters["Sampler"].flatMap { SamplerRegistry.named($0)?.sampler.name }.map {
          .string($0)
        },
        "seed": parameters["Seed"].flatMap { UInt64($0) }.map { .number("\($0)") },
        "width": sides.count == 2 ? .integer(sides[0]) : nil,
        "height": sides.count == 2 ? .integer(sides[1]) : nil, "strength": real("Denoising strength"),
        "rng": parameters["RNG"].flatMap { noise[$0] }.map { .string($0) },
        "prompt_syntax": parameters["Prompt syntax"].map { .string($0) },
        "model": parameters["Model"].map { .string($0) },
      ]),
    ])
  }
}

/// All that a machine has, as JSON; looked for when somebody asks, once for all who ask at the same time.
actor Survey {
  private let look: @Sendable () async throws -> String
  private var looking: Task<StrictJSON, any Error>?

  init(_ look: @escaping @Sendable () async throws -> String) { self.look = look }

  /// Throws what `look` throws.
  var found: StrictJSON {
    get async throws {
      if let looking { return try await looking.value }
      let task = Task { [look] in try StrictJSON(parsing: Array(try await look().utf8)) }
      looking = task
      defer { looking = nil }
      return try await task.value
    }
  }
}

/// A file of the page, which is part of the program.
struct PageFile: Sendable {
  let path: String
  private let type: String
  private let bytes: [UInt8]

  static let all = [
    PageFile(path: "/", type: "text/html; charset=utf-8", bytes: PackageResources.index_html),
    script("page", PackageResources.page_js), script("drawing", PackageResources.drawing_js),
    script("mask", PackageResources.mask_js), script("server", PackageResources.server_js),
    script("settings", PackageResources.settings_js),
    PageFile(path: "/style.css", type: "text/css; charset=utf-8", bytes: PackageResources.style_css),
    PageFile(path: "/icon.svg", type: "image/svg+xml", bytes: PackageResources.icon_svg),
    PageFile(path: "/openapi.json", type: "application/json", bytes: PackageResources.openapi_json),
  ]

  private static func script(_ name: String, _ bytes: [UInt8]) -> PageFile {
    PageFile(path: "/\(name).js", type: "text/javascript; charset=utf-8", bytes: bytes)
  }

  static let paths = Set(all.map(\.path))

  var response: Response {
    Response(
      status: .ok,
      headers: [
        .contentType: type, .cacheControl: "no-cache",
        // Nothing from anywhere else, whatever a prompt or a picture's text says.
        .contentSecurityPolicy:
          "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
          + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      ], body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }
}
