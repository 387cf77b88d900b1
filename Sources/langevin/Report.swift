import Foundation
import Langevin
import LangevinMeasurement
import LangevinNN
import LangevinTensor

/// What was measured and written on the way.
struct Run {
  let start: ContinuousClock.Instant
  private(set) var written: [String] = []
  /// What `--json` says of them; without it nothing of a picture is kept but its path.
  var pictures: [Report.Picture] { described.sorted { $0.image < $1.image }.map(\.picture) }
  private var described: [(image: Int, picture: Report.Picture)] = []
  /// Of every picture.
  private(set) var (width, height) = (0, 0)
  private(set) var loadSeconds = 0.0
  /// Spent on kernels that were not compiled yet.
  private(set) var compileSeconds = 0.0
  private(set) var stepSeconds: [Double] = []
  private(set) var decodeSeconds: [Double] = []
  /// Of computing since the last picture.
  private var sinceLast = 0.0
  /// Of those that are computed together now, by device.
  var firstImage: [Int: Int] = [:]
  /// The number of the device that the next lap is of.
  var member = 0
  /// When each device's last lap ended.
  private var marks: [Int: ContinuousClock.Instant] = [:]
  private var begin: ContinuousClock.Instant

  init(start: ContinuousClock.Instant) { (self.start, begin) = (start, start) }

  /// An image was written to these files.
  mutating func add(_ paths: [String], _ picture: Langevin.Picture) {
    written += paths
    (width, height) = (picture.width, picture.height)
  }

  /// For `--json`: what these files say of themselves.
  mutating func describe(_ paths: [String], image: Int, seed: UInt64, _ parameters: PictureParameters) {
    described += paths.map {
      (image, Report.Picture(path: $0, seed: seed, parameters: parameters.description))
    }
  }

  private mutating func lap() -> Double {
    let now = ContinuousClock.now
    defer { marks[member] = now }
    return (now - (marks[member] ?? begin)) / .seconds(1)
  }

  mutating func beginCompiling() { loadSeconds += lap() }
  mutating func endCompiling() {
    compileSeconds += lap()
    // All devices set out from here.
    (begin, marks) = (.now, [:])
  }
  /// What comes between trajectories, and between the last and decoding, is loading and encoding.
  mutating func beginSampling() { loadSeconds += lap() }
  mutating func endStep() -> Double {
    stepSeconds.append(lap())
    sinceLast += stepSeconds[stepSeconds.count - 1]
    return stepSeconds[stepSeconds.count - 1]
  }
  mutating func beginDecoding() { loadSeconds += lap() }
  mutating func endDecoding() {
    decodeSeconds.append(lap())
    sinceLast += decodeSeconds[decodeSeconds.count - 1]
  }

  /// Seconds of computing since this was last asked.
  mutating func takeSeconds() -> Double {
    defer { sinceLast = 0 }
    return sinceLast
  }

  var totalSeconds: Double { (ContinuousClock.now - start) / .seconds(1) }

  var medianStep: Double {
    let sorted = stepSeconds.sorted()
    guard !sorted.isEmpty else { return 0 }
    return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
  }

  var summary: String {
    let compiled = compileSeconds >= 0.1 ? String(format: "compile %.2f s, ", compileSeconds) : ""
    return compiled
      + String(
        format: "load %.2f s, step %.3f s (median of %d), decode %.2f s, total %.2f s", loadSeconds,
        medianStep,
        stepSeconds.count, decodeSeconds.reduce(0, +), totalSeconds)
  }
}

/// The report that `generate --json` prints.
struct Report: Encodable {
  struct Picture: Encodable {
    let path: String
    let seed: UInt64
    /// What its file says of itself, which `--from` reads.
    let parameters: String
  }
  struct Timings: Encodable {
    let compile, load, stepMedian, firstStep, decode, total: Double
    let steps: [Double]
  }
  struct Memory: Encodable {
    let devicePeakBytes, deviceLimitBytes, processPeakBytes: Int
  }
  struct Fallbacks: Encodable {
    let operations, bytes: Int
    let byName: [String: Int]
  }
  /// What ran as simpler operations.
  struct Decompositions: Encodable {
    let operations: Int
    let byName: [String: Int]
  }
  struct Settings: Encodable {
    let prompts: [String]
    let negative, promptSyntax, model, rng, precision: String
    let sampler, spacing: String?
    let sigmas: [Double]?
    let guidance, guidanceRescale: Double?
    let guidanceInterval: [Double]?
    let eta: Double
    let steps: Int?
    let width, height, count, batch: Int
    let image: [String]
    let imageFiles: [InputFile]
    let mask: InputFile?
    let canvas: String?
    let strength, hires, hiresStrength: Double?
    let hiresBy, cache: String?
    let lora: [AdditionRecord.LoRA]
    let embedding: [AdditionRecord.Embedding]
    let control: ControlRecord
    let initLatents: InputFile?
    let initLatentsIndex: Int?
    let prediction: String?
    let priorSteps: Int?
    let priorGuidance: Double?
    let superResolutionSteps, noiseLevel, frames: Int?
    let framesPerSecond: Double?
    let tile: Int?
    /// Of the model; what the user gives comes before it.
    let recommended: Recommended

    init(_ record: PictureRecord, _ recommended: RecommendedSettings, width: Int, height: Int, model: URL) {
      let (options, request) = (record.options, record.request)
      (prompts, negative, promptSyntax) = (
        request.prompts, request.negativePrompt, request.promptSyntax.rawValue
      )
      (self.model, rng, precision) = (model.path, request.noise.rawValue, record.precision)
      (sampler, spacing, sigmas) = (
        request.sampler?.name, options.spacing?.name, options.sigmas?.values
      )
      (guidance, guidanceRescale) = (request.guidance, request.guidanceRescale)
      guidanceInterval = options.guidanceInterval?.values
      (eta, steps) = (request.eta, request.steps)
      (self.width, self.height, count, batch) = (width, height, request.count, request.batch)
      (image, imageFiles, strength) = (options.image, record.images, request.strength)
      (hires, hiresStrength) = (request.highResolution?.scale, request.highResolution?.strength)
      (hiresBy, cache) = (request.highResolution?.enlargingName, request.cache?.text)
      (mask, canvas) = (record.mask, options.canvas?.text)
      (lora, embedding) = (record.additions.loras + record.additions.tagged, record.additions.embeddings)
      control = record.control
      (initLatents, initLatentsIndex) = (record.latents, options.initLatentsIndex)
      prediction = options.prediction?.rawValue
      (priorSteps, priorGuidance) = (request.priorSteps, request.priorGuidance)
      (superResolutionSteps, noiseLevel) = (request.superResolutionSteps, request.noiseLevel)
      (frames, framesPerSecond, tile) = (request.frames, request.framesPerSecond, request.tiling?.tile)
      self.recommended = Recommended(recommended)
    }
  }
  struct Recommended: Encodable {
    let guidance: Double?
    let steps: Int?
    let sampler: String?

    init(_ settings: RecommendedSettings) {
      (guidance, steps, sampler) = (settings.guidance, settings.steps, settings.sampler?.name)
    }
  }

  let version: String
  let outputs: [Picture]
  let latents: String?
  let device, deviceName: String
  let seconds: Timings
  let memory: Memory
  let fallbacks: Fallbacks
  let decompositions: Decompositions
  let settings: Settings

  init(
    _ command: Generate, _ record: PictureRecord, _ recommended: RecommendedSettings, run: Run,
    devices: [Device], model: URL
  ) {
    version = LangevinCommand.configuration.version
    outputs = run.pictures
    latents = command.saveLatents
    device = devices.map(\.name).joined(separator: ",")
    deviceName = devices.map(\.label).joined(separator: ", ")
    seconds = Timings(
      compile: run.compileSeconds, load: run.loadSeconds, stepMedian: run.medianStep,
      firstStep: run.stepSeconds.first ?? 0,
      decode: run.decodeSeconds.reduce(0, +), total: run.totalSeconds, steps: run.stepSeconds)
    let uses = devices.map(\.backend.memory)
    memory = Memory(
      devicePeakBytes: uses.reduce(0) { $0 + $1.highWater },
      deviceLimitBytes: uses.reduce(0) { $0 + $1.limit }, processPeakBytes: ProcessMemory.peak)
    let counted = devices.map(\.fallbacks)
    fallbacks = Fallbacks(
      operations: counted.reduce(0) { $0 + $1.operations }, bytes: counted.reduce(0) { $0 + $1.bytes },
      byName: counted.reduce(into: [:]) { $0.merge($1.byName, uniquingKeysWith: +) })
    let decomposed: [String: Int] = devices.reduce(into: [:]) {
      $0.merge($1.decompositions, uniquingKeysWith: +)
    }
    decompositions = Decompositions(operations: decomposed.values.reduce(0, +), byName: decomposed)
    settings = Settings(record, recommended, width: run.width, height: run.height, model: model)
  }
}
