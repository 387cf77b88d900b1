import Foundation
import Langevin
import LangevinJSON
import Testing

@testable import LangevinServer

extension ServerSuites {
  /// What cannot be asked is refused with one clear line as JSON, and the server goes on.
  @Suite struct BadRequestTests {
    /// Path, body, status, and words of the line.
    private static let cases: [(path: String, body: String, status: Int, words: [String])] = [
      ("/v1/jobs", "", 400, ["JSON"]),
      ("/v1/jobs", "[]", 400, ["must be a JSON object"]),
      ("/v1/jobs", #"{"prompt": "a""#, 400, ["no JSON"]),
      ("/v1/jobs", #"{"prompt": "a", "prompt": "b"}"#, 400, ["'prompt' twice"]),
      ("/v1/jobs", #"{"prompt": 3}"#, 400, ["'prompt' must be a text", "3"]),
      ("/v1/jobs", #"{"prompt": "a", "step": 3}"#, 400, ["'step'", "did you mean 'steps'"]),
      ("/v1/jobs", #"{"prompt": "a", "steps": 0}"#, 400, ["steps must be 1 to 10000"]),
      ("/v1/jobs", #"{"prompt": "a", "steps": 501}"#, 400, ["steps must be at most 500 on this server"]),
      ("/v1/jobs", #"{"prompt": "a", "steps": 2.5}"#, 400, ["'steps' must be a whole number", "2.5"]),
      ("/v1/jobs", #"{"prompt": "a", "guidance": "much"}"#, 400, ["'guidance' must be a number"]),
      ("/v1/jobs", #"{"prompt": "a", "guidance": 1e999}"#, 400, ["'guidance' must be a number"]),
      ("/v1/jobs", #"{"prompt": "a", "seed": -2}"#, 400, ["'seed'", "2^64"]),
      ("/v1/jobs", #"{"prompt": "a", "count": 17}"#, 400, ["pictures must be at most 16"]),
      ("/v1/jobs", #"{"prompt": "a", "count": 0}"#, 400, ["count must be 1 to 10000"]),
      ("/v1/jobs", #"{"prompt": "a", "width": 63}"#, 400, ["width must be a multiple of"]),
      (
        "/v1/jobs", #"{"prompt": "a", "width": 4096, "height": 4096}"#, 400,
        ["width times height", "4194304"]
      ),
      (
        "/v1/jobs", #"{"prompt": "a", "width": 9223372036854775807, "height": 9}"#, 400,
        ["width times height"]
      ),
      ("/v1/jobs", #"{"prompt": "a", "sampler": "eulr"}"#, 400, ["'eulr'", "did you mean 'euler'"]),
      ("/v1/jobs", #"{"prompt": "a", "spacing": "karas"}"#, 400, ["'karas'", "did you mean 'karras'"]),
      ("/v1/jobs", #"{"prompt": "a", "rng": "dice"}"#, 400, ["'rng'", "philox"]),
      ("/v1/jobs", #"{"prompt": "a", "model": "emoji-difusion"}"#, 404, ["did you mean 'emoji-diffusion'"]),
      ("/v1/jobs", #"{"prompt": "a", "model": "../../etc/passwd"}"#, 404, ["there is no model"]),
      ("/v1/jobs", #"{"prompt": "<lora:style>"}"#, 400, ["'style'", "--lora-dir"]),
      ("/v1/jobs", #"{"prompt": "<lora:style:x>"}"#, 400, ["<lora:NAME:SCALE>"]),
      ("/v1/jobs", #"{"prompt": "a", "strength": 0.5}"#, 400, ["strength needs an image"]),
      ("/v1/jobs", #"{"prompt": "a", "image": "%%%"}"#, 400, ["'image' must be a file in base64"]),
      (
        "/v1/jobs", #"{"prompt": "a", "image": "aGVsbG8="}"#, 400, ["the image: not a PNG, JPEG or WebP file"]
      ),
      ("/v1/jobs", "{}", 400, ["there is no prompt"]),
      ("/v1/images/generations", #"{"prompt": "a", "size": "big"}"#, 400, ["'size' must be WIDTHxHEIGHT"]),
      ("/v1/images/generations", #"{"prompt": "a", "response_format": "gif"}"#, 400, ["b64_json, url"]),
      ("/v1/images/generations", #"{"prompt": "a", "output_format": "webp"}"#, 400, ["must be png"]),
      ("/v1/images/generations", #"{"prompt": "a", "stream": true}"#, 400, ["/v1/jobs has events"]),
      ("/v1/images/generations", #"{"prompt": "a", "model": "dall-e-3"}"#, 404, ["no model 'dall-e-3'"]),
      ("/v1/images/edits", #"{"prompt": "a"}"#, 400, ["multipart/form-data"]),
      ("/sdapi/v1/txt2img", #"{"prompt": "a", "batch_size": 0}"#, 400, ["'batch_size' and 'n_iter'"]),
      ("/sdapi/v1/txt2img", #"{"prompt": "a", "n_iter": 99}"#, 400, ["at most 16"]),
      ("/sdapi/v1/txt2img", #"{"prompt": "a", "steps": "many"}"#, 400, ["'steps' must be a whole number"]),
      (
        "/sdapi/v1/txt2img", #"{"prompt": "a", "sampler_name": "Oiler"}"#, 400,
        ["there is no sampler 'Oiler'"]
      ),
      (
        "/sdapi/v1/txt2img", #"{"prompt": "a", "override_settings": {"sd_model_checkpoint": "x"}}"#, 404,
        ["no model 'x'"]
      ),
      ("/sdapi/v1/img2img", #"{"prompt": "a"}"#, 400, ["'init_images' must have one picture"]),
      ("/sdapi/v1/img2img", #"{"prompt": "a", "init_images": "a.png"}"#, 400, ["'init_images'", "list"]),
      (
        "/sdapi/v1/img2img", #"{"prompt": "a", "init_images": ["/etc/passwd"]}"#, 400,
        ["'init_images'", "base64"]
      ),
      ("/sdapi/v1/png-info", #"{}"#, 400, ["no 'image'"]),
      ("/v1/png-info", "no picture", 400, ["not a PNG"]),
    ]

    @Test func `each is refused in one line, and the server draws afterwards`() async throws {
      try await withServer { client, server in
        for (path, body, status, words) in Self.cases {
          let answer = try await client.post(path, body)
          let message = answer.message
          #expect(answer.status == status, "\(path) \(body): \(message)")
          #expect(try answer.json["detail"]?.string == message)
          #expect(!message.contains("\n"))
          for word in words { #expect(message.contains(word), "\(path) \(body): \(message)") }
        }
        #expect(await server.queue.all.isEmpty, "nothing of it became a job")
        let good = try await client.post("/v1/images/generations", #"{"prompt": "red apple", "steps": 1}"#)
        #expect(good.status == 200)
      }
    }

    @Test func `a prompt of a megabyte is refused, and one that is long is drawn`() async throws {
      try await withServer { client, _ in
        let long = String(repeating: "apple ", count: 1 << 18)
        let answer = try await client.post("/v1/jobs", #"{"prompt": "\#(long)"}"#)
        #expect(answer.status == 400)
        #expect(answer.message.contains("a prompt must be at most 65536 bytes"))
        let shorter = String(repeating: "apple ", count: 100)
        let job = try await client.ended(
          try await client.post("/v1/jobs", #"{"prompt": "\#(shorter)", "steps": 1}"#))
        #expect(job["state"] == .string("done"))
        #expect(job["warnings"]?.text.contains("cut off") == true)
      }
    }

    @Test func `a body over the limit is refused before and while it is read`() async throws {
      try await withServer {
        $0.served.limits.body = 1 << 16
      } _: { client, _ in
        let large = Data(repeating: UInt8(ascii: " "), count: 1 << 17)
        let told = try await client.send("POST", "/v1/jobs", [:], large)
        #expect(told.status == 413)
        #expect(told.message.contains("the body is larger than 64 KiB"))
        let chunked =
          client.head("POST", "/v1/jobs", ["Transfer-Encoding": "chunked"]) + Data("20000\r\n".utf8) + large
          + Data("\r\n0\r\n\r\n".utf8)
        #expect(try await client.raw(chunked).status == 413)
        #expect(try await client.get("/health").status == 200)
      }
    }

    @Test func `a client that sends a large body before it reads is answered`() async throws {
      let engine = GatedEngine()
      engine.open()
      try await withServer(engines: [engine]) {
        $0.served.limits.body = 1 << 22
      } _: { client, server in
        // More than the buffers between a socket and a route hold.
        let large = Data(repeating: UInt8(ascii: " "), count: 1 << 23)
        let chunk = Data("800000\r\n".utf8) + large + Data("\r\n0\r\n\r\n".utf8)
        for path in [
          "/v1/jobs", "/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img", "/sdapi/v1/img2img",
          "/v1/png-info",
        ] {
          let told = try await client.send("POST", path, [:], large)
          #expect(told.status == 413, "\(path)")
          let head = client.head("POST", path, ["Transfer-Encoding": "chunked"])
          let chunked = try await client.raw(head + chunk)
          #expect(chunked.status == 413, "\(path)")
        }
        #expect(try await client.get("/health").status == 200)
      }
    }

    @Test func `a body that breaks off and a request that is none leave the server as it was`() async throws {
      try await withServer { client, server in
        let part = client.head("POST", "/v1/jobs", ["Content-Length": "1000"]) + Data("{\"prompt\":".utf8)
        let answer = try? await client.raw(part, half: true)
        #expect(answer == nil || answer?.status == 400)
        let noise = try? await client.raw(Data("\u{16}\u{3}\u{1} no HTTP at all\r\n\r\n".utf8))
        #expect(noise == nil || noise?.status == 400)
        #expect(await server.queue.all.isEmpty)
        let health = try await client.get("/health")
        #expect(health.status == 200)
      }
    }

    @Test func `a LoRA is looked for in its folder alone`() async throws {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("langevin-loras-\(UUID())")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      try Data("no weights".utf8).write(to: folder.appendingPathComponent("style.safetensors"))
      try await withServer {
        $0.served.loraFolder = folder.path
      } _: { client, _ in
        #expect(try await client.get("/v1/loras").json["loras"] == .strings(["style"]))
        for name in ["stile", "../style", "/etc/passwd"] {
          let answer = try await client.post("/v1/jobs", #"{"prompt": "a <lora:\#(name):1>"}"#)
          #expect(answer.status == 400)
          #expect(answer.message.contains(name), "\(answer.message)")
        }
        let broken = try await client.post("/v1/images/generations", #"{"prompt": "a <lora:style>"}"#)
        #expect(broken.status >= 400)
        #expect(broken.message.contains("style.safetensors"))
        let good = try await client.post("/v1/images/generations", #"{"prompt": "red apple", "steps": 1}"#)
        #expect(good.status == 200)
      }
    }

    @Test func `multipart forms that are damaged are refused`() async throws {
      try await withServer { client, _ in
        let picture = try #require(Data(base64Encoded: try Picture.base64()))
        let whole = Form([.init("prompt", "a"), .init("image", file: picture)])
        let cases: [(Data, [String: String], String)] = [
          (Data(), whole.headers, "does not have its boundary"),
          (whole.body.dropLast(30), whole.headers, "ends before its last boundary"),
          (whole.body, ["Content-Type": "multipart/form-data"], "with a boundary"),
          (
            whole.body, ["Content-Type": "multipart/form-data; boundary=another"],
            "does not have its boundary"
          ),
          (
            Data("--boundary-of-a-test\r\nX: y\r\n\r\na\r\n--boundary-of-a-test--".utf8), whole.headers,
            "has no name"
          ),
          (Form([.init("prompt", "a")]).body, whole.headers, "must have one file 'image', got 0"),
          (
            Form([.init("image", file: picture), .init("sound", file: picture)]).body, whole.headers,
            "a file 'sound'"
          ),
          (
            Form([.init("prompt", "a"), .init("image", file: picture), .init("mask", file: picture)]).body,
            whole.headers,
            "the mask has no transparency"
          ),
          (
            Form([.init("prompt", "a"), .init("image", file: Data("x".utf8))]).body, whole.headers,
            "not a PNG"
          ),
          (
            Form((0..<70).map { .init("f\($0)", "x") }).body, whole.headers, "more than 64 parts"
          ),
        ]
        for (body, headers, words) in cases {
          let answer = try await client.send("POST", "/v1/images/edits", headers, Data(body))
          #expect(answer.status == 400)
          #expect(answer.message.contains(words), "\(answer.message)")
        }
      }
    }

    @Test func `jobs, pictures and paths that there are not`() async throws {
      try await withServer { client, _ in
        let job = try await client.ended(try await client.post("/v1/jobs", #"{"prompt": "a", "steps": 1}"#))
        let id = try #require(job["id"]?.string)
        for (method, path, status) in [
          ("GET", "/v1/jobs/none", 404), ("GET", "/v1/jobs/\(id)/pictures/1", 404),
          ("GET", "/v1/jobs/\(id)/pictures/x", 404), ("DELETE", "/v1/jobs/\(id)", 409),
          ("GET", "/../etc/passwd", 404),
          ("GET", "/v1/jobs/\(id)/pictures/..%2f..%2fetc%2fpasswd", 404), ("GET", "/v1/models/other", 404),
          ("PUT", "/v1/jobs", 405), ("TRACE", "/health", 405), ("GET", "/sdapi/v1/txt2img", 405),
          ("GET", "/page.css", 404),
        ] {
          let answer = try await client.send(method, path)
          #expect(answer.status == status, "\(method) \(path)")
          #expect(!answer.message.isEmpty)
        }
        let put = try await client.send("PUT", "/v1/jobs/\(id)")
        #expect(put.headers["allow"] == "DELETE, GET, HEAD")
        #expect(put.message == "/v1/jobs/\(id) is there for DELETE, GET, HEAD, not for PUT")
        let head = try await client.send("HEAD", "/v1/jobs/\(id)/pictures/0")
        #expect(head.status == 200)
        #expect(head.headers["content-type"] == "image/png")
        #expect(head.body.isEmpty)
      }
    }

    @Test func `a job that is cancelled twice is refused the second time`() async throws {
      let engine = GatedEngine()
      try await withServer(engines: [engine]) { client, _ in
        let id = try #require(try await client.post("/v1/jobs", #"{"prompt": "a"}"#).json["id"]?.string)
        let first = try await client.send("DELETE", "/v1/jobs/\(id)")
        #expect(first.status == 200)
        #expect(try first.json["state"] == .string("cancelled"))
        let second = try await client.send("DELETE", "/v1/jobs/\(id)")
        #expect(second.status == 409)
        #expect(second.message == "the job '\(id)' is cancelled already")
      }
    }

    @Test func `a model that cannot be opened is said to be so, and others are drawn with`() async throws {
      try await withServer {
        $0.served.models.append("/nowhere/at-all")
      } _: { client, _ in
        let answer = try await client.post("/v1/jobs", #"{"prompt": "a", "model": "at-all"}"#)
        #expect(answer.status == 503)
        #expect(answer.message.contains("/nowhere/at-all: no such file"))
        #expect(try await client.get("/v1/models").text.contains("no such file"))
        let good = try await client.post("/v1/images/generations", #"{"prompt": "red apple", "steps": 1}"#)
        #expect(good.status == 200)
      }
    }
  }
}
