import Foundation
import Langevin
import LangevinJSON
import Synchronization
import Testing

@testable import LangevinServer

extension ServerSuites {
  /// Many clients, and those that go away.
  @Suite struct LoadTests {
    @Test func `of 200 concurrent requests a queue of 8 takes 9 and refuses the rest`() async throws {
      let engine = GatedEngine()
      try await withServer(engines: [engine]) {
        $0.queueLimit = 8
      } _: { client, server in
        let answers = try await withThrowingTaskGroup(of: Client.Answer.self) { group in
          for number in 0..<200 {
            group.addTask { try await client.post("/v1/images/generations", #"{"prompt": "\#(number)"}"#) }
          }
          var answers: [Client.Answer] = []
          for try await answer in group {
            answers.append(answer)
            // All that cannot wait are refused; the others are waiting now.
            if answers.count == 191 { engine.open() }
          }
          return answers
        }
        #expect(answers.filter { $0.status == 200 }.count == 9)
        let refused = answers.filter { $0.status == 429 }
        #expect(refused.count == 191)
        #expect(refused.allSatisfy { Int($0.headers["retry-after"] ?? "") != nil })
        #expect(engine.drawn.withLock { Set($0).count } == 9)
        #expect(await server.queue.depth.waiting == 0)
      }
    }

    @Test func `a client that goes away cancels its job, waiting or running`() async throws {
      let engine = GatedEngine()
      try await withServer(engines: [engine]) { client, server in
        func post(_ path: String) async throws -> Socket {
          let body = Data(#"{"prompt": "left"}"#.utf8)
          let request = client.head("POST", path, ["Content-Length": "\(body.count)"]) + body
          return try await onThread {
            let socket = try Socket(client.port)
            try socket.send(request)
            return socket
          }
        }
        do {
          let sockets = [try await post("/v1/images/generations"), try await post("/sdapi/v1/txt2img")]
          while await server.queue.active.count < 2 { try await Task.sleep(for: .milliseconds(5)) }
          withExtendedLifetime(sockets) {}
        }
        let jobs = await server.queue.all
        for job in jobs { #expect(await job.ended().state == .cancelled) }
        engine.open()
        let answer = try await client.post("/v1/images/generations", #"{"prompt": "stays"}"#)
        #expect(answer.status == 200)
        #expect(engine.drawn.withLock { $0 } == ["stays"])
      }
    }

    @Test func `events that nobody reads any more cancel the job only where that was asked`() async throws {
      let engine = GatedEngine()
      try await withServer(engines: [engine]) { client, server in
        for (query, state) in [("", "running"), ("?cancel_on_close=true", "cancelled")] {
          let id = try #require(try await client.post("/v1/jobs", #"{"prompt": "a"}"#).json["id"]?.string)
          try await onThread {
            let socket = try Socket(client.port)
            try socket.send(client.head("GET", "/v1/jobs/\(id)/events\(query)", [:]))
            _ = try socket.readAll(limit: 20)
          }
          try await Task.sleep(for: .milliseconds(300))
          #expect(try await client.get("/v1/jobs/\(id)").json["state"] == .string(state))
          if state == "running" { _ = try await client.send("DELETE", "/v1/jobs/\(id)") }
        }
      }
    }

    @Test func `A1111's interrupt ends what its clients ordered, and nothing else`() async throws {
      let engine = GatedEngine()
      try await withServer(engines: [engine, GatedEngine()]) { client, server in
        let mine = try await client.post("/v1/jobs", #"{"prompt": "mine"}"#)
        async let theirs = client.post("/sdapi/v1/txt2img", #"{"prompt": "theirs"}"#)
        while await server.queue.active.filter({ $0.status.state == .running }).count < 2 {
          try await Task.sleep(for: .milliseconds(5))
        }
        #expect(try await client.post("/sdapi/v1/interrupt", "").status == 200)
        let answer = try await theirs
        #expect(answer.status == 200)
        #expect(answer.text.contains(#"\"interrupted\":true"#))
        let id = try #require(mine.json["id"]?.string)
        #expect(try await client.get("/v1/jobs/\(id)").json["state"] == .string("running"))
      }
    }

    @Test func `slow clients keep nobody waiting`() async throws {
      let engine = GatedEngine()
      engine.open()
      try await withServer(engines: [engine]) { client, _ in
        let slow = try await onThread {
          try (0..<50).map { _ in
            let socket = try Socket(client.port)
            try socket.send(Data("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n".utf8))
            return socket
          }
        }
        let start = ContinuousClock.now
        #expect(try await client.get("/health").status == 200)
        #expect(ContinuousClock.now - start < .seconds(5))
        withExtendedLifetime(slow) {}
      }
    }
  }
}
