import Foundation
import Langevin
import LangevinJSON
import Testing

@testable import LangevinServer

extension ServerSuites {
  /// `langevin serve` as a process, with a process of its own that draws.
  @Suite struct ProcessTests {
    /// A server that runs.
    struct Running {
      let process: Process
      let client: Client
      let errors: URL

      var log: String { (try? String(contentsOf: errors, encoding: .utf8)) ?? "" }

      /// The process that draws: the server's only child.
      func drawingProcess() throws -> Int32? {
        let tasks = "/proc/\(process.processIdentifier)/task"
        let children = try FileManager.default.contentsOfDirectory(atPath: tasks).compactMap {
          try? String(contentsOfFile: "\(tasks)/\($0)/children", encoding: .utf8)
        }
        return children.flatMap { $0.split(separator: " ") }.first.flatMap { Int32($0) }
      }

      /// Returns the exit code and the seconds that it took.
      func stop(_ signal: Int32) -> (status: Int32, seconds: Double) {
        let start = Date()
        kill(process.processIdentifier, signal)
        process.waitUntilExit()
        return (process.terminationStatus, Date().timeIntervalSince(start))
      }
    }

    private static var executable: URL {
      let other = ProcessInfo.processInfo.environment["LANGEVIN_TOOL"].map { URL(fileURLWithPath: $0) }
      return other ?? Bundle.main.bundleURL.appendingPathComponent("langevin")
    }

    private static func serve(_ arguments: [String] = [], _ body: (Running) async throws -> Void) async throws
    {
      let process = Process()
      process.executableURL = executable
      process.arguments = ["serve", "--port", "0", "--device", "cpu"] + arguments
      let output = Pipe()
      process.standardOutput = output
      let errors = FileManager.default.temporaryDirectory.appendingPathComponent(
        "langevin-serve-\(UUID()).log")
      try #require(FileManager.default.createFile(atPath: errors.path, contents: nil))
      process.standardError = try FileHandle(forWritingTo: errors)
      defer { try? FileManager.default.removeItem(at: errors) }
      try process.run()
      defer { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
      let line = try await onThread {
        LineReader(output.fileHandleForReading.fileDescriptor).next().map {
          String(decoding: $0, as: UTF8.self)
        } ?? ""
      }
      let port = try #require(line.split(separator: ":").last.flatMap { Int($0) }, "no address: \(line)")
      #expect(line.hasPrefix("serving emoji-diffusion on cpu"))
      try await body(Running(process: process, client: Client(port: port), errors: errors))
    }

    private let quick = #"{"prompt": "red apple", "steps": 1, "seed": 1}"#
    private let long = #"{"prompt": "red apple", "steps": 500, "seed": 1}"#

    @Test func `a drawing process that is killed costs one request, again and again`() async throws {
      try await Self.serve { server in
        let client = server.client
        for round in 0..<5 {
          async let lost = client.post("/v1/images/generations", long)
          while try await !client.get("/sdapi/v1/progress").text.contains(#""sampling_steps":500"#) {
            try await Task.sleep(for: .milliseconds(20))
          }
          async let waiting = client.post("/v1/images/generations", quick)
          let child = try #require(try server.drawingProcess())
          kill(child, SIGKILL)
          let answer = try await lost
          #expect(answer.status == 500)
          #expect(answer.message.contains("was ended by signal 9"), "\(answer.message)")
          #expect(try await waiting.status == 200, "round \(round)")
        }
        #expect(try await client.get("/metrics").text.contains("langevin_engine_crashes_total 5\n"))
        // One that dies while nothing is drawn costs nothing.
        kill(try #require(try server.drawingProcess()), SIGKILL)
        try await Task.sleep(for: .milliseconds(200))
        #expect(try await client.post("/v1/images/generations", quick).status == 200)
      }
    }

    @Test func `a cancelled job stops in the drawing process, which draws the next`() async throws {
      try await Self.serve { server in
        let client = server.client
        let id = try #require(try await client.post("/v1/jobs", long).json["id"]?.string)
        while try await client.get("/v1/jobs/\(id)").json["step"] == .integer(0) {
          try await Task.sleep(for: .milliseconds(20))
        }
        let child = try server.drawingProcess()
        #expect(try await client.send("DELETE", "/v1/jobs/\(id)").status == 200)
        let start = Date()
        #expect(try await client.post("/v1/images/generations", quick).status == 200)
        #expect(Date().timeIntervalSince(start) < 20, "500 steps would take longer")
        #expect(try server.drawingProcess() == child)
      }
    }

    @Test func `a cancelled job that does not stop costs its process, and no other job`() async throws {
      var command = DrawingProcessCommand(executable: Self.executable, arguments: ["draw-for-server"])
      command.patience = 0.5
      let served = ServedModels(models: [try DefaultModel.url.path])
      let engine = try await ChildEngine(
        DrawingSetup(served: served, device: "cpu", version: "langevin test"), command, metrics: Metrics())
      let model = try #require(Catalog(served).models.first?.name)
      let hung = try #require(await engine.processID)
      let begun = AsyncStream.makeStream(of: Void.self)
      let job = Task {
        try await engine.draw(Order(model: model, prompt: "red apple", steps: 500)) { _ in
          begun.continuation.yield()
        }
      }
      for await _ in begun.stream { break }
      kill(hung, SIGSTOP)
      job.cancel()
      await #expect(throws: Failure.self) { try await job.value }
      let drawn = Flag()
      try await engine.draw(Order(model: model, prompt: "red apple", steps: 1)) { event in
        if case .picture = event { drawn.set() }
      }
      #expect(drawn.isSet)
      #expect(await engine.processID != hung)
      await engine.stop()
    }

    @Test func `Ctrl-C stops within two seconds and hands back what waits`() async throws {
      try await Self.serve { server in
        let client = server.client
        async let running = client.post("/v1/images/generations", long)
        async let waiting = client.post("/v1/images/generations", long)
        while try await client.get("/health").json["queue_depth"] != .integer(1) {
          try await Task.sleep(for: .milliseconds(20))
        }
        let child = try #require(try server.drawingProcess())
        let (status, seconds) = server.stop(SIGINT)
        #expect(status == 0)
        #expect(seconds < 2)
        for answer in [try await running, try await waiting] {
          #expect(answer.status == 503)
          #expect(answer.message.contains("the server is stopping"))
        }
        #expect(kill(child, 0) != 0, "the drawing process is gone too")
      }
    }

    @Test func `a client that never ends its request does not keep Ctrl-C waiting`() async throws {
      try await Self.serve { server in
        let client = server.client
        let slow = try await onThread {
          let socket = try Socket(client.port)
          try socket.send(client.head("POST", "/v1/jobs", ["Content-Length": "100"]) + Data("{".utf8))
          return socket
        }
        #expect(try await client.get("/health").status == 200)
        let (status, seconds) = server.stop(SIGINT)
        #expect(status == 0)
        #expect(seconds < 2)
        withExtendedLifetime(slow) {}
      }
    }

    @Test func `SIGTERM draws what is queued and takes no more`() async throws {
      try await Self.serve { server in
        let client = server.client
        let body = #"{"prompt": "red apple", "steps": 20, "seed": 1}"#
        async let running = client.post("/v1/images/generations", body)
        async let waiting = client.post("/v1/images/generations", body)
        while try await client.get("/health").json["queue_depth"] != .integer(1) {
          try await Task.sleep(for: .milliseconds(5))
        }
        kill(server.process.processIdentifier, SIGTERM)
        try await Task.sleep(for: .milliseconds(100))
        #expect(try await client.get("/health").status == 503)
        #expect(try await client.post("/v1/jobs", quick).status == 503)
        #expect(try await running.status == 200)
        #expect(try await waiting.status == 200)
        server.process.waitUntilExit()
        #expect(server.process.terminationStatus == 0)
      }
    }

    @Test func `the log is one line a request, as JSON where that is asked`() async throws {
      try await Self.serve(["--log-format", "json"]) { server in
        let client = server.client
        _ = try await client.get("/v1/models")
        _ = try await client.post("/v1/jobs", "{")
        _ = server.stop(SIGINT)
        let lines = server.log.split(separator: "\n")
        #expect(lines.count == 2, "\(server.log)")
        let second = try StrictJSON(parsing: Array(lines[1].utf8))
        #expect(second["status"] == .integer(400))
        #expect(second["path"] == .string("/v1/jobs"))
      }
    }

    @Test func `what keeps it from starting is one line`() async throws {
      for (arguments, status, words) in [
        (["--host", "0.0.0.0"], 64, "--api-key"), (["--port", "70000"], 64, "--port must be 0 to 65535"),
        (["--host", "192.0.2.1", "--api-key", "k"], 1, "Cannot assign requested address\n"),
        (["--device", "cpu:7"], 64, "there is no device"),
        (["--lora-dir", "/nowhere"], 1, "/nowhere: no such file"),
      ] as [([String], Int32, String)] {
        let process = Process()
        process.executableURL = Self.executable
        process.arguments = ["serve", "--port", "0", "--device", "cpu"] + arguments
        let errors = Pipe()
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        let text = try await onThread {
          String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        }
        process.waitUntilExit()
        #expect(process.terminationStatus == status, "\(arguments): \(text)")
        #expect(text.contains(words), "\(arguments): \(text)")
        #expect(text.split(separator: "\n").count == 1, "\(text)")
      }
    }
  }
}
