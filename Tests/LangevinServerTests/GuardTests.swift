import Foundation
import Langevin
import Testing

@testable import LangevinServer

extension ServerSuites {
  /// Who may ask.
  @Suite struct GuardTests {
    @Test func `only names of this server are answered`() async throws {
      try await withServer(engines: [GatedEngine()]) {
        $0.allowedHosts = ["Pictures.example.org"]
      } _: { client, _ in
        for (host, status) in [
          ("127.0.0.1:1", 200), ("localhost", 200), ("LOCALHOST:7860", 200), ("[::1]:7860", 200),
          ("192.168.1.4", 200),
          ("pictures.example.org", 200), ("evil.example", 403), ("localhost.evil.example", 403),
          ("127.0.0.1.evil", 403),
          ("[::1].evil", 403),
        ] {
          let answer = try await client.get("/health", ["Host": host])
          #expect(answer.status == status, "\(host)")
          if status == 403 { #expect(answer.message.contains("--allow-host")) }
        }
      }
    }

    @Test func `a page of another site may not use the server`() async throws {
      try await withServer(engines: [GatedEngine()]) { client, _ in
        let own = "127.0.0.1:\(client.port)"
        for (origin, status) in [
          ("http://\(own)", 202), ("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:1", 403),
        ] {
          let answer = try await client.post("/v1/jobs", #"{"prompt": "a"}"#, ["Origin": origin])
          #expect(answer.status == status, "\(origin)")
          #expect(answer.headers["access-control-allow-origin"] == nil)
        }
      }
    }

    @Test func `without the key nothing but the page and the health is answered`() async throws {
      try await withServer(engines: [GatedEngine()]) {
        $0.apiKey = "secret"
      } _: { client, _ in
        func basic(_ text: String) -> String { "Basic " + Data(text.utf8).base64EncodedString() }
        for (authorization, status) in [
          ("Bearer secret", 200), (basic("anyone:secret"), 200), ("bearer secret", 200),
          ("Bearer secre", 401),
          ("Bearer secret2", 401), ("Bearer secretsecret", 401), ("Bearer ", 401), (basic("secret"), 401),
          ("secret", 401),
        ] {
          let answer = try await client.get("/v1/jobs", ["Authorization": authorization])
          #expect(answer.status == status, "\(authorization)")
        }
        let none = try await client.get("/v1/jobs")
        #expect(none.status == 401)
        #expect(none.headers["www-authenticate"] == "Bearer")
        #expect(none.message.contains("Authorization: Bearer KEY"))
        #expect(try await client.get("/health").status == 200)
        #expect(try await client.get("/").status == 200)
        #expect(try await client.get("/metrics").status == 401)
      }
    }

    @Test func `a host that others reach needs a key`() async throws {
      for (host, key, isGood) in [
        ("127.0.0.1", nil, true), ("localhost", nil, true), ("::1", nil, true), ("127.1.2.3", nil, true),
        ("0.0.0.0", nil, false), ("0.0.0.0", "", false), ("0.0.0.0", "secret", true),
        ("127.evil.example", nil, false),
      ] as [(String, String?, Bool)] {
        var configuration = ServerConfiguration(
          served: ServedModels(models: ["a"]), devices: ["cpu"], version: "test")
        (configuration.host, configuration.apiKey) = (host, key)
        if isGood {
          try configuration.check()
        } else {
          #expect(throws: ServerError.keyNeeded(host: host)) { try configuration.check() }
        }
      }
    }
  }
}
