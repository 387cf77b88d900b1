import Foundation
import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import Testing

/// What the tool makes.
struct GenerateTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private struct Report: Decodable {
    struct Output: Decodable {
      let path: String
      let seed: UInt64
    }
    struct Fallbacks: Decodable { let operations: Int }
    struct Memory: Decodable { let devicePeakBytes, processPeakBytes: Int }
    struct Seconds: Decodable { let steps: [Double] }
    let outputs: [Output]
    let device: String
    let fallbacks, decompositions: Fallbacks
    let memory: Memory
    let seconds: Seconds
  }

  private func generate(_ arguments: [String]) throws {
    let outcome = try Tool.generate(arguments, in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(arguments): \(outcome.errors)")
  }

  private func picture(_ name: String) throws -> Picture { try Picture.read(scratch.url(name)).picture }

  private func latents(_ name: String) throws -> (values: [Float], shape: Shape) {
    let tensor = try SafetensorsFile(url: scratch.url(name)).load("latents", on: Device(CPUBackend()))
    #expect(tensor.dtype == .float32)
    return (try tensor.floats(), tensor.shape)
  }

  private func worst(_ a: [Float], _ b: [Float]) throws -> Float {
    #expect(a.count == b.count && !a.isEmpty)
    return zip(a, b).map { abs($0 - $1) }.reduce(0, max)
  }

  @Test func everyDeviceGivesTheSameLatents() throws {
    let devices = ["cpu", try Tool.pocl()]
    for (sampler, rng) in [("ddim", "philox"), ("euler-a", "torch")] {
      for (index, device) in devices.enumerated() {
        try generate([
          "--device", device, "--no-fallback", "--steps", "4", "--seed", "7", "--sampler", sampler, "--rng",
          rng,
          "--output", "\(index).png", "--save-latents", "\(index).safetensors",
        ])
      }
      let (cpu, pocl) = (try latents("0.safetensors"), try latents("1.safetensors"))
      #expect(cpu.shape == [1, 4, 16, 16] && pocl.shape == cpu.shape)
      let scale = cpu.values.map(abs).reduce(0, max)
      let difference = try worst(cpu.values, pocl.values)
      #expect(difference <= 1e-3 * scale, "\(sampler): \(difference) of \(scale)")
      let shown = try picture("0.png")
      #expect(shown.width == 64 && shown.height == 64 && Set(shown.pixels).count > 16)
      // A rounding at the edge of a grey level.
      let levels = zip(shown.pixels, try picture("1.png").pixels).map { abs(Int($0) - Int($1)) }.max()
      #expect(try #require(levels) <= 1)
    }
  }

  @Test(arguments: ["cpu", "opencl"]) func imagesOfABatchAreThoseOfTheirSeeds(device: String) throws {
    let common = [
      "--device", device == "cpu" ? device : try Tool.pocl(), "--steps", "2", "--sampler", "ddpm",
    ]
    try generate(
      common + ["--seed", "41", "--count", "4", "--output", "b.png", "--save-latents", "b.safetensors"])
    let batch = try latents("b.safetensors")
    #expect(batch.shape == [4, 4, 16, 16])
    for index in 0..<4 {
      try generate(
        common + ["--seed", "\(41 + index)", "--output", "s.png", "--save-latents", "s.safetensors"])
      #expect(try picture("s.png") == picture("b-\(index).png"))
      #expect(try latents("s.safetensors").values == Array(batch.values[index * 1024..<(index + 1) * 1024]))
    }
    #expect(try picture("b-0.png") != picture("b-1.png"))
  }

  @Test func settingsAreInTheFileAndInTheReport() throws {
    let outcome = try Tool.run(
      [
        "generate", "grinning face, café", "--negative", "sad: 悲", "--quiet", "--json", "--device", "cpu",
        "--steps",
        "2", "--seed", "5", "--guidance", "3", "--sampler", "euler-a", "--rng", "torch-cuda", "--width", "72",
      ], in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
    #expect(report.outputs.map(\.path) == ["langevin-5.png"] && report.outputs.map(\.seed) == [5])
    #expect(
      report.device == "cpu" && report.fallbacks.operations == 0
        && report.decompositions.operations == 0 && report.seconds.steps.count == 2)
    #expect(
      report.memory.devicePeakBytes > 1 << 20
        && report.memory.processPeakBytes > report.memory.devicePeakBytes)
    let text = try #require(try Picture.read(scratch.url("langevin-5.png")).texts["parameters"])
    let parameters = PictureParameters(parsing: text)
    #expect(parameters.prompt == "grinning face, café" && parameters.negativePrompt == "sad: 悲")
    for (name, value) in [
      ("Steps", "2"), ("Sampler", "Euler a"), ("CFG scale", "3"), ("Seed", "5"), ("Size", "72x64"),
      ("RNG", "NV"),
      ("Model", "emoji-diffusion"),
    ] {
      #expect(parameters[name] == value)
    }
  }

  /// The user's word, then the model's, then the tool's own.
  @Test func aModelsRecommendationsHoldWhereNothingIsSaid() throws {
    struct Outcome: Decodable {
      struct Settings: Decodable {
        struct Recommended: Decodable, Equatable {
          var guidance: Double?
          var steps: Int?
          var sampler: String?
        }
        let guidance: Double
        let steps: Int
        let sampler: String
        let recommended: Recommended
      }
      let settings: Settings
    }
    let model = try scratch.model()
    let file = model.appendingPathComponent("langevin.json")
    func settings(_ arguments: [String]) throws -> Outcome.Settings {
      let outcome = try Tool.generate(
        ["--model", model.path, "--device", "cpu", "--seed", "1", "--json"] + arguments, in: scratch.folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      return try JSONDecoder().decode(Outcome.self, from: Data(outcome.output.utf8)).settings
    }
    try Data(#"{"guidance": 2.5, "steps": 2, "sampler": "euler"}"#.utf8).write(to: file)
    let recommended = try settings([])
    #expect(recommended.guidance == 2.5 && recommended.steps == 2 && recommended.sampler == "euler")
    let said = try settings(["--guidance", "1", "--steps", "1", "--sampler", "ddim"])
    #expect(said.guidance == 1 && said.steps == 1 && said.sampler == "ddim")
    #expect(said.recommended == .init(guidance: 2.5, steps: 2, sampler: "euler"))
    try FileManager.default.removeItem(at: file)
    let plain = try settings(["--steps", "1"])
    #expect(plain.guidance == 7.5 && plain.sampler == "ddim" && plain.recommended == .init())

    try Data(#"{"guidence": 3}"#.utf8).write(to: file)
    try Tool.expectFailure(
      ["--model", model.path], words: ["langevin.json", "unknown key 'guidence'"], in: scratch)
    let help = try Tool.run(["generate", "--help"], in: scratch.folder)
    #expect(help.output.components(separatedBy: "langevin.json").count == 4)
  }

  @Test func imagesAreTakenUp() throws {
    let drawn = try Tool.run(
      ["generate", "blue heart", "--quiet", "--device", "cpu", "--seed", "2", "--output", "heart.png"],
      in: scratch.folder)
    #expect(drawn.status == 0, "\(drawn.errors)")
    let heart = try picture("heart.png")
    try heart.resized(width: 90, height: 90).writePNG(to: scratch.url("in.png"))
    let common = [
      "--device", "cpu", "--steps", "10", "--seed", "1", "--image", "in.png", "--width", "64", "--height",
      "64",
    ]
    try generate(common + ["--strength", "0.1", "--output", "weak.png"])
    try generate(common + ["--strength", "0.9", "--output", "strong.png"])
    func distance(_ name: String) throws -> Int {
      try zip(picture(name).pixels, heart.pixels).map { abs(Int($0) - Int($1)) }.reduce(0, +)
    }
    #expect(try distance("weak.png") * 2 < distance("strong.png"))
  }

  @Test func savedLatentsCanStartARun() throws {
    try generate([
      "--device", "cpu", "--steps", "2", "--seed", "1", "--save-latents", "a.safetensors", "--output",
      "a.png",
    ])
    for seed in ["1", "2"] {
      try generate([
        "--device", "cpu", "--steps", "2", "--seed", seed, "--init-latents", "a.safetensors", "--output",
        "\(seed).png",
      ])
    }
    // DDIM draws nothing else, so the seed no longer matters.
    #expect(try picture("1.png") == picture("2.png"))
    #expect(try picture("1.png") != picture("a.png"))
  }

  @Test func aLongPromptSaysWhatIsCut() throws {
    // Of 16 positions two are the start and the end.
    let words = [String](repeating: "face", count: 40).joined(separator: " ")
    let outcome = try Tool.run(
      ["generate", words, "--quiet", "--device", "cpu", "--steps", "1", "--output", "p.png"],
      in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errorLines.count == 1)
    let rest = [String](repeating: "face", count: 26).joined(separator: " ")
    #expect(outcome.errors.contains("warning: the prompt is longer"))
    #expect(outcome.errors.contains("cut off: '\(rest)'"), "\(outcome.errors)")
  }

  @Test(arguments: [SIGINT, SIGTERM])
  func anInterruptedBatchKeepsWhatIsFinished(signal: Int32) throws {
    let arguments = [
      "generate", "grinning face", "--device", "cpu", "--steps", "4", "--count", "2000", "--output", "p.png",
    ]
    let running = try Tool.start(arguments, in: scratch.folder)
    try wait(for: running) { try scratch.files().contains("p-0000.png") }
    kill(running.process.processIdentifier, signal)
    let outcome = try running.finish()
    #expect(outcome.status == 130)
    let files = try scratch.files()
    #expect(
      !files.isEmpty && files.count < 2000 && files.allSatisfy { $0.hasSuffix(".png") && $0.hasPrefix("p-") })
    for file in files { #expect(try picture(file).width == 64) }
    #expect(outcome.errors.contains("kept") && outcome.errors.contains("p-0000.png"))
  }

  @Test func anInterruptBeforeTheFirstPictureLeavesNothing() throws {
    let arguments = [
      "generate", "grinning face", "--device", "cpu", "--steps", "900", "--output", "p.png",
      "--save-latents", "l.safetensors",
    ]
    let running = try Tool.start(arguments, in: scratch.folder)
    try wait(for: running) { running.errors.contains("step 1/900") }
    kill(running.process.processIdentifier, SIGINT)
    let outcome = try running.finish()
    #expect(outcome.status == 130 && outcome.errors.contains("no file was written"))
    #expect(try scratch.files().isEmpty)
  }

  /// Until something is seen of a running tool; a minute is far more than it takes.
  private func wait(for running: Tool.Running, until condition: () throws -> Bool) throws {
    let end = ContinuousClock.now + .seconds(60)
    while try !condition() {
      try #require(running.process.isRunning && ContinuousClock.now < end, "\(running.errors)")
      usleep(20_000)
    }
  }

  @Test func devicesAreListedWithWhatWasProbed() throws {
    let name = try Tool.pocl()
    let text = try Tool.run(["devices"], in: scratch.folder)
    #expect(text.status == 0 && text.output.contains("cpu: OpenBLAS") && text.output.contains("\(name): "))
    struct Listing: Decodable {
      let opencl: [DeviceDescription]
    }
    let json = try Tool.run(["devices", "--json"], in: scratch.folder)
    let listing = try JSONDecoder().decode(Listing.self, from: Data(json.output.utf8))
    let pocl = try #require(listing.opencl.first { "opencl:\($0.index)" == name })
    #expect(
      pocl.problem == nil && pocl.computeUnits > 0 && pocl.globalMemory > 0
        && pocl.version.hasPrefix("OpenCL"))
  }

  /// As README shows it.
  @Test func theLibraryDrawsAPicture() throws {
    let checkpoint = try Checkpoint.open(DefaultModel.url)
    let pipeline = try StableDiffusion(checkpoint, on: DeviceChoice.automatic.open())
    var request = GenerationRequest(prompt: "grinning face", recommended: checkpoint.recommended)
    #expect(request.guidance == 2 && request.steps == 24 && request.sampler == .ddim)
    request.seed = 1
    request.steps = 3
    var steps: [Int] = []
    let result = try pipeline.generate(request) { event in
      if case .step(let step, let total, _) = event { steps.append(step * 10 + total) }
    }
    #expect(steps == [13, 23, 33])
    try result.pictures[0].writePNG(to: scratch.url("face.png"))
    #expect(try picture("face.png") == result.pictures[0])
  }
}
