import Foundation
import Langevin
import LangevinCPU
import LangevinJSON
import LangevinTensor
import Testing

@testable import LangevinServer

extension ServerSuites {
  /// What clients are answered, over HTTP, with the shipped model on the CPU.
  @Suite struct RouteTests {
    @Test func `a job is drawn as the library draws it`() async throws {
      try await withServer { client, _ in
        let posted = try await client.post(
          "/v1/jobs", #"{"prompt": "red apple", "steps": 2, "seed": 7, "count": 2}"#)
        #expect(posted.status == 202)
        let job = try await client.ended(posted)
        #expect(job["state"] == .string("done"))
        guard case .array(let pictures)? = job["pictures"] else {
          Issue.record("no pictures: \(job.text)")
          return
        }
        #expect(pictures.map { $0["seed"] } == [.number("7"), .number("8")])
        let url = try #require(pictures[1]["url"]?.string)
        let file = try await client.get(url)
        #expect(file.headers["content-type"] == "image/png")
        var request = GenerationRequest(
          prompt: "red apple", recommended: try Checkpoint.open(DefaultModel.url).recommended)
        (request.steps, request.seed, request.count, request.batch) = (2, 7, 2, 2)
        let expected = try Pipelines.open(Checkpoint.open(DefaultModel.url), on: Device(CPUBackend()))
          .generate(
            request)
        let read = try Picture.read(file.body, path: "answer", limits: ImageLimits())
        #expect(read.picture == expected.pictures[1])
        #expect(read.texts["parameters"]?.contains("Seed: 8, Size: 64x64, Model: emoji-diffusion") == true)
      }
    }

    @Test func `events tell of progress and end with the job`() async throws {
      try await withServer { client, _ in
        let posted = try await client.post(
          "/v1/jobs", #"{"prompt": "red apple", "steps": 2, "preview_every": 1}"#)
        let id = try #require(posted.json["id"]?.string)
        let events = try await client.get("/v1/jobs/\(id)/events")
        #expect(events.headers["content-type"] == "text/event-stream")
        let names = events.text.split(separator: "\n").filter { $0.hasPrefix("event: ") }.map {
          $0.dropFirst(7)
        }
        #expect(names.last == "done")
        #expect(names.contains("picture"))
        #expect(events.text.contains(#""steps":2"#))
        #expect(events.text.contains("data:image/png;base64,"))
      }
    }

    @Test func `OpenAI's generations come in base64 or as addresses`() async throws {
      try await withServer { client, _ in
        let body =
          #"{"prompt": "red apple", "n": 2, "size": "64x64", "steps": 1, "seed": 1, "quality": "high"}"#
        let answer = try await client.post("/v1/images/generations", body)
        #expect(answer.status == 200)
        guard case .array(let data)? = try answer.json["data"] else {
          Issue.record("no data: \(answer.text)")
          return
        }
        #expect(data.count == 2)
        let file = try #require(data[0]["b64_json"]?.string.flatMap { Data(base64Encoded: $0) })
        #expect(try Picture.read(file, path: "answer", limits: ImageLimits()).picture.width == 64)
        let other = try await client.post(
          "/v1/images/generations", #"{"prompt": "red apple", "steps": 1, "response_format": "url"}"#)
        guard case .array(let addresses)? = try other.json["data"] else {
          Issue.record("no data: \(other.text)")
          return
        }
        let url = try #require(addresses[0]["url"]?.string)
        let path = try #require(url.range(of: "/v1/")).lowerBound
        #expect(try await client.get(String(url[path...])).body.starts(with: [0x89, 0x50]))
      }
    }

    @Test func `OpenAI's edits draw where the mask is transparent and keep the rest`() async throws {
      try await withServer { client, _ in
        let picture = try #require(Data(base64Encoded: try Picture.base64()))
        // A PNG of 64x64 whose left half is transparent.
        let mask = try Self.halfTransparent()
        let form = Form([
          .init("prompt", "red apple"), .init("steps", "2"), .init("seed", "1"),
          .init("image", file: picture), .init("mask", file: mask),
        ])
        let answer = try await client.send("POST", "/v1/images/edits", form.headers, form.body)
        #expect(answer.status == 200, "\(answer.text.prefix(300))")
        guard case .array(let data)? = try answer.json["data"] else { return }
        let file = try #require(data[0]["b64_json"]?.string.flatMap { Data(base64Encoded: $0) })
        let drawn = try Picture.read(file, path: "answer", limits: ImageLimits()).picture
        func difference(_ columns: Range<Int>) -> Int {
          columns.reduce(0) { sum, x in
            sum + (0..<64).reduce(0) { $0 + abs(Int(drawn.pixels[($1 * 64 + x) * 3]) - 200) }
          } / (columns.count * 64)
        }
        #expect(difference(40..<64) < 25, "the right half is kept")
        #expect(difference(0..<24) > 25, "the left half is drawn anew")
      }
    }

    @Test func `A1111's txt2img draws, and lists what it ignores`() async throws {
      try await withServer { client, _ in
        let body =
          #"{"prompt": "(red apple:1.2)", "steps": 2, "width": 64, "height": 64, "seed": 5, "cfg_scale": 2, "#
          + #""sampler_name": "DPM++ 2M Karras", "enable_hr": false, "tiling": false, "override_settings": {}}"#
        let answer = try await client.post("/sdapi/v1/txt2img", body)
        #expect(answer.status == 200, "\(answer.text.prefix(300))")
        let info = try StrictJSON(parsing: Array((answer.json["info"]?.string ?? "").utf8))
        #expect(info["ignored"] == .strings(["enable_hr", "tiling"]))
        #expect(info["all_seeds"] == .array([.number("5")]))
        guard case .array(let images)? = try answer.json["images"], let image = images.first?.string else {
          Issue.record("no images: \(answer.text)")
          return
        }
        let said = try await client.post(
          "/sdapi/v1/png-info", #"{"image": "data:image/png;base64,\#(image)"}"#)
        #expect(try said.json["info"]?.string?.contains("Sampler: DPM++ 2M Karras") == true)
        #expect(try said.json["parameters"]?["RNG"] == .string("NV"))
      }
    }

    @Test func `A1111's img2img varies a picture, within a mask where there is one`() async throws {
      try await withServer { client, _ in
        let image = try Picture.base64()
        let mask = try Picture.base64([255, 255, 255])
        for extra in ["", #", "mask": "\#(mask)", "inpainting_mask_invert": 0"#] {
          let body =
            #"{"prompt": "blue heart", "steps": 4, "denoising_strength": 0.5, "init_images": ["\#(image)"]\#(extra)}"#
          let answer = try await client.post("/sdapi/v1/img2img", body)
          #expect(answer.status == 200, "\(answer.text.prefix(300))")
          guard case .array(let images)? = try answer.json["images"] else { return }
          #expect(images.count == 1)
        }
      }
    }

    @Test func `A1111's lists have what there is`() async throws {
      try await withServer { client, _ in
        for (path, word) in [
          ("samplers", "Euler a"), ("schedulers", "karras"), ("sd-models", "emoji-diffusion"),
          ("loras", "[]"),
          ("upscalers", "None"), ("options", "emoji-diffusion"), ("progress", "sampling_steps"),
        ] {
          let answer = try await client.get("/sdapi/v1/\(path)")
          #expect(answer.status == 200)
          #expect(answer.text.contains(word), "\(path): \(answer.text.prefix(200))")
        }
        #expect(
          try await client.post("/sdapi/v1/options", #"{"sd_model_checkpoint": "emoji-diffusion"}"#).status
            == 200)
        #expect(
          try await client.post("/sdapi/v1/options", #"{"sd_model_checkpoint": "other"}"#).status == 404)
        #expect(try await client.post("/sdapi/v1/interrupt", "").status == 200)
      }
    }

    @Test
    func `the page, its files and the API's description are served, and may load nothing from elsewhere`()
      async throws
    {
      try await withServer { client, _ in
        for path in PageFile.paths.sorted() {
          let answer = try await client.get(path)
          #expect(answer.status == 200)
          #expect(answer.body.count > 300, "\(path)")
          #expect(answer.headers["content-security-policy"]?.contains("default-src 'none'") == true)
          #expect(!answer.text.contains("https://"), "\(path)")
          // A module that is not served would stop the page.
          for name in answer.text.matches(of: /from "\.(\/\w+\.js)"/).map(\.1) {
            #expect(PageFile.paths.contains(String(name)), "\(path)")
          }
        }
      }
    }

    @Test func `the API's description has every route and no other`() async throws {
      try await withServer(engines: [GatedEngine()]) { client, server in
        guard case .object(let paths)? = try await client.get("/openapi.json").json["paths"] else {
          Issue.record("no paths")
          return
        }
        let described = paths.flatMap { path -> [String] in
          guard case .object(let methods) = path.value else { return [] }
          return methods.map { "\($0.key.uppercased()) \(path.key)" }
        }
        let page = Set(PageFile.all.map { "GET \($0.path)" })
        let routes = server.routes.routes.map { route -> String in
          // Names of models may have a slash in them.
          let path = "\(route.path)".replacing("**", with: "{id}").replacing(/:(\w+)/) { "{\($0.1)}" }
          return "\(route.method) \(path)"
        }
        #expect(Set(routes).subtracting(page) == Set(described))
      }
    }

    @Test func `health, numbers, models and settings are told`() async throws {
      try await withServer { client, _ in
        #expect(try await client.get("/health").json["status"] == .string("ok"))
        _ = try await client.post("/v1/images/generations", #"{"prompt": "red apple", "steps": 1}"#)
        let metrics = try await client.get("/metrics").text
        #expect(metrics.contains("langevin_jobs_total{state=\"done\"} 1\n"))
        #expect(metrics.contains("langevin_pictures_total 1\n"))
        #expect(metrics.contains("route=\"/v1/images/generations\",status=\"200\"} 1\n"))
        let model = try await client.get("/v1/models/emoji-diffusion").json
        #expect(model["defaults"]?["steps"] == .integer(24))
        guard case .array(let settings)? = model["settings"] else { return }
        #expect(settings.contains(.string("strength")))
        #expect(!settings.contains(.string("frames")))
      }
    }

    /// Its left half is transparent, its right half opaque black.
    private static func halfTransparent() throws -> Data {
      let grey = try Picture(
        width: 64, height: 64,
        pixels: (0..<64 * 64).flatMap { place -> [UInt8] in
          Array(repeating: place % 64 < 32 ? 0 : 255, count: 3)
        })
      let layers = PictureLayers(
        picture: try Picture(width: 64, height: 64, pixels: Array(repeating: 0, count: 64 * 64 * 3)),
        alpha: grey)
      let url = FileManager.default.temporaryDirectory.appendingPathComponent("langevin-mask-\(UUID()).png")
      defer { try? FileManager.default.removeItem(at: url) }
      try layers.write(to: url)
      return try Data(contentsOf: url)
    }
  }
}

/// A multipart form.
struct Form {
  struct Part {
    let name: String
    let data: Data
    let isFile: Bool
    init(_ name: String, _ text: String) { (self.name, data, isFile) = (name, Data(text.utf8), false) }
    init(_ name: String, file: Data) { (self.name, data, isFile) = (name, file, true) }
  }

  let boundary = "boundary-of-a-test"
  let parts: [Part]
  init(_ parts: [Part]) { self.parts = parts }

  var headers: [String: String] { ["Content-Type": "multipart/form-data; boundary=\(boundary)"] }
  var body: Data {
    var result = Data()
    for part in parts {
      let file = part.isFile ? "; filename=\"a.png\"\r\nContent-Type: image/png" : ""
      result += Data(
        "--\(boundary)\r\nContent-Disposition: form-data; name=\"\(part.name)\"\(file)\r\n\r\n".utf8)
      result += part.data + Data("\r\n".utf8)
    }
    return result + Data("--\(boundary)--\r\n".utf8)
  }
}
