import ArgumentParser
import Foundation
import Langevin
import LangevinDoctor
import LangevinServer
import LangevinTensor
import Logging
import Synchronization

/// `langevin serve`.
struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Keeps models loaded, and draws for a browser and for programs.",
    discussion: """
      Examples:
        langevin serve
        langevin serve --model org/name --model other.safetensors --lora-dir loras --device opencl:0
        LANGEVIN_API_KEY=secret langevin serve --host 0.0.0.0 --allow-host pictures.example.org

      The address goes to standard output once the server answers: a page for people, the APIs of OpenAI's and \
      A1111's clients, and its own, which /openapi.json describes. Ctrl-C stops within two seconds; SIGTERM draws \
      what is queued first.
      """)

  @Option(
    name: [.customShort("m"), .long],
    help: """
      A diffusers folder, a single .safetensors or .gguf file, or org/name of the Hugging Face cache; may be given \
      again, the first is the default. (default: the emoji model that ships along)
      """)
  var model: [String] = []
  @Option(
    help: ArgumentHelp("Where the LoRAs are that prompts name with <lora:NAME:SCALE>.", valueName: "DIR"))
  var loraDir: String?
  @Option(help: "auto, all, or devices with commas between them; each draws one job at a time.")
  var device = "auto"
  @Option(help: "Storage of weights and activations: f32, f16 or bf16.")
  var precision = Precision.f32
  @Option(
    help: "Keep the networks' weights in blocks: q8_0, q6_K, q5_0, q4_K or q4_0. (default: as they are)")
  var encoding: BlockEncoding?
  @Option(help: "How products with weights in q8_0 are computed: f32 or int8.")
  var arithmetic = ProductArithmetic.float32
  @Option(help: "The name or address to listen at; any but this machine's own needs a key.")
  var host = "127.0.0.1"
  @Option(parsing: .unconditional, help: "The port to listen at; 0 for a free one.")
  var port = 7860
  @Option(help: "What clients must send; better in the environment, as LANGEVIN_API_KEY.")
  var apiKey: String?
  @Option(help: "A name by which clients may call the server, beside addresses; may be given again.")
  var allowHost: [String] = []
  @Option(parsing: .unconditional, help: "How many jobs may wait; more are refused with status 429.")
  var queue = 16
  @Option(
    parsing: .unconditional,
    help: "How many pictures of jobs that wait and have the same settings are drawn together; 1 for none.")
  var batch = 4
  @Option(parsing: .unconditional, help: "The largest body of a request, in MiB.")
  var maxBody = 32
  @Option(parsing: .unconditional, help: "The largest picture, width times height in pixels.")
  var maxPixels = 1 << 22
  @Option(parsing: .unconditional, help: "The most pictures of a job.")
  var maxCount = 16
  @Option(parsing: .unconditional, help: "The most steps of a picture.")
  var maxSteps = 500
  @Option(parsing: .unconditional, help: "Seconds that SIGTERM leaves to the jobs that are queued.")
  var drain = 30.0
  @Option(help: "text or json, on standard error.")
  var logFormat = ServerLog.Format.text
  @Flag(
    help: ArgumentHelp("Draw in this process: a driver that crashes ends the server.", visibility: .hidden))
  var inProcess = false

  func validate() throws {
    for (name, value, range) in [
      ("port", port, 0...65_535), ("queue", queue, 0...100_000), ("max-body", maxBody, 1...4096),
      ("batch", batch, 1...1024), ("max-pixels", maxPixels, 1...1 << 28), ("max-count", maxCount, 1...10_000),
      ("max-steps", maxSteps, 1...10_000),
    ] where !range.contains(value) {
      throw ValidationError("--\(name) must be \(range.lowerBound) to \(range.upperBound), got \(value)")
    }
    guard (0...86_400).contains(drain) else {
      throw ValidationError("--drain must be 0 to 86400 seconds, got \(drain)")
    }
  }

  func run() throws {
    var limits = ServerLimits()
    (limits.body, limits.pixels) = (maxBody << 20, maxPixels)
    (limits.pictures, limits.steps) = (maxCount, maxSteps)
    let models = try model.isEmpty ? [DefaultModel.url.path] : model
    if let loraDir, !FileManager.default.fileExists(atPath: loraDir) {
      throw CheckpointError.missingFile(path: loraDir)
    }
    var configuration = ServerConfiguration(
      served: ServedModels(
        models: models, loraFolder: loraDir, precision: precision.dtype, encoding: encoding,
        arithmetic: arithmetic, limits: limits),
      devices: try devices(), version: "langevin \(LangevinCommand.configuration.version)")
    (configuration.host, configuration.port) = (host, port)
    let key = apiKey ?? ProcessInfo.processInfo.environment["LANGEVIN_API_KEY"]
    configuration.apiKey = key?.isEmpty == true ? nil : key
    (configuration.allowedHosts, configuration.queueLimit) = (allowHost, queue)
    (configuration.batch, configuration.drainSeconds) = (batch, drain)
    if !inProcess {
      configuration.drawingProcess = DrawingProcessCommand(
        executable: Tool.executable, arguments: [DrawForServer._commandName])
    }
    configuration.survey = {
      // It waits for another process: not on a thread that tasks share.
      try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try Self.survey() }) }
      }
    }
    let log = ServerLog(format: logFormat) { StandardStreams.writeMessage($0 + "\n") }
    let logger = Logger(label: "langevin.server") { _ in log }
    let signals = StopSignals()
    try Self.wait { [configuration] in
      let server = try await Server(configuration, logger: logger)
      try await server.run(until: { await signals.next() }) { address in
        Output.result("serving \(server.summary) at \(address)")
      }
    }
  }

  private func devices() throws -> [String] {
    guard device == "all" else {
      return try device.split(separator: ",", omittingEmptySubsequences: false).map {
        try DeviceChoice.parse(String($0)).resolved(
          trying: Tool.selfTest, notice: { Output.notice($0) }
        ).description
      }
    }
    let usable = BackendRegistry.devices.filter { $0.problem == nil }
    // The processor is left to the drivers where there are any.
    let others = usable.filter { $0.provider != DeviceChoice.cpu.provider }
    return (others.isEmpty ? usable : others).map(\.name)
  }

  /// In a process of its own, as a driver may crash.
  private static func survey() throws -> String {
    let outcome = try ChildProcess.run(
      Tool.executable, ["devices", "--json"], environment: ProcessInfo.processInfo.environment, patience: 60)
    guard outcome.status == 0, outcome.signal == nil, !outcome.isTimedOut else {
      throw CheckpointError.unreadable(path: "langevin devices", reason: "a driver crashed or hangs")
    }
    return outcome.output
  }

  /// Runs asynchronous work from a command, which is not.
  private static func wait(_ work: @escaping @Sendable () async throws -> Void) throws {
    let done = DispatchSemaphore(value: 0)
    let outcome = Outcome()
    Task.detached {
      do { try await work() } catch { outcome.error.withLock { $0 = error } }
      done.signal()
    }
    done.wait()
    if let error = outcome.error.withLock({ $0 }) { throw error }
  }
}

private final class Outcome: Sendable {
  let error = Mutex<(any Error)?>(nil)
}

extension ServerLog.Format: ExpressibleByArgument {}

/// `langevin draw-for-server`: the process that a server draws in.
struct DrawForServer: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "draw-for-server", abstract: "Draws what a server sends it.", shouldDisplay: false)

  func run() throws { DrawingProcess.run() }
}
