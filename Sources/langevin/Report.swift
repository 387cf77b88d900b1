import Foundation
import Langevin

/// What was measured and written on the way.
struct Run {
  let start: ContinuousClock.Instant
  var written: [String] = []
  private(set) var loadSeconds = 0.0
  private(set) var stepSeconds: [Double] = []
  private(set) var decodeSeconds: [Double] = []
  private var mark: ContinuousClock.Instant

  init(start: ContinuousClock.Instant) {
    self.start = start
    mark = start
  }

  private mutating func lap() -> Double {
    let now = ContinuousClock.now
    defer { mark = now }
    return (now - mark) / .seconds(1)
  }

  /// What comes between trajectories, and between the last and decoding, is loading and encoding.
  mutating func beginSampling() { loadSeconds += lap() }
  mutating func endStep() -> Double {
    stepSeconds.append(lap())
    return stepSeconds[stepSeconds.count - 1]
  }
  mutating func beginDecoding() { loadSeconds += lap() }
  mutating func endDecoding() { decodeSeconds.append(lap()) }

  var totalSeconds: Double { (ContinuousClock.now - start) / .seconds(1) }

  var medianStep: Double {
    let sorted = stepSeconds.sorted()
    guard !sorted.isEmpty else { return 0 }
    return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
  }

  var summary: String {
    String(
      format: "load %.2f s, step %.3f s (median of %d), decode %.2f s, total %.2f s", loadSeconds, medianStep,
      stepSeconds.count, decodeSeconds.reduce(0, +), totalSeconds)
  }

  /// The most memory that this process ever had resident, in bytes, as the kernel counts it.
  static var peakResidentMemory: Int {
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return 0 }
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return (line?.split(separator: " ").compactMap { Int($0) }.first ?? 0) * 1024
  }
}

/// What `--json` prints.
struct Report: Encodable {
  struct Picture: Encodable {
    let path: String
    let seed: UInt64
  }
  struct Timings: Encodable {
    let load, stepMedian, firstStep, decode, total: Double
    let steps: [Double]
  }
  struct Memory: Encodable {
    let devicePeakBytes, deviceLimitBytes, processPeakBytes: Int
  }
  struct Fallbacks: Encodable {
    let operations, bytes: Int
    let byName: [String: Int]
  }
  struct Settings: Encodable {
    let prompts: [String]
    let negative, model, rng, precision: String
    let sampler: String?
    let guidance: Double?
    let eta: Double
    let steps: Int?
    let width, height, count: Int
    let image: [String]
    let strength: Double?
    /// Of the model; what the user gives comes before it.
    let recommended: Recommended
  }
  struct Recommended: Encodable {
    let guidance: Double?
    let steps: Int?
    let sampler: String?

    init(_ settings: RecommendedSettings) {
      (guidance, steps, sampler) = (settings.guidance, settings.steps, settings.sampler?.rawValue)
    }
  }

  let outputs: [Picture]
  let latents: String?
  let device, deviceName: String
  let seconds: Timings
  let memory: Memory
  let fallbacks: Fallbacks
  let settings: Settings

  init(
    _ command: Generate, _ request: GenerationRequest, _ recommended: RecommendedSettings, run: Run,
    result: GenerationResult, device: Device, model: URL
  ) {
    outputs = zip(run.written, result.seeds).map { Picture(path: $0, seed: $1) }
    latents = command.saveLatents
    self.device = device.name
    deviceName = device.label
    seconds = Timings(
      load: run.loadSeconds, stepMedian: run.medianStep, firstStep: run.stepSeconds.first ?? 0,
      decode: run.decodeSeconds.reduce(0, +), total: run.totalSeconds, steps: run.stepSeconds)
    let use = device.backend.memory
    memory = Memory(
      devicePeakBytes: use.highWater, deviceLimitBytes: use.limit, processPeakBytes: Run.peakResidentMemory)
    let counted = device.fallbacks
    fallbacks = Fallbacks(operations: counted.operations, bytes: counted.bytes, byName: counted.byName)
    settings = Settings(
      prompts: request.prompts, negative: request.negativePrompt, model: model.path,
      rng: request.noise.rawValue,
      precision: command.options.precision.rawValue, sampler: request.sampler?.rawValue,
      guidance: request.guidance, eta: request.eta, steps: request.steps, width: result.pictures[0].width,
      height: result.pictures[0].height, count: request.count, image: command.options.image,
      strength: request.strength, recommended: Recommended(recommended))
  }
}
