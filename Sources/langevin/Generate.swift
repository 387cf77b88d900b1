import ArgumentParser
import Foundation
import Langevin
import LangevinTensor

/// `langevin generate`.
struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Generates pictures from a prompt.",
    discussion: """
      The paths of the pictures go to standard output, everything else to standard error. Ctrl-C stops after the \
      step in progress and keeps the pictures that are finished.
      """)

  @Argument(help: "What to draw.")
  var prompt: String

  @Option(
    help: "A diffusers folder or a single .safetensors file. (default: the emoji model that ships along)")
  var model: String?
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "What to steer away from.")
  var negative = ""
  @Option(
    parsing: .unconditional,
    help: """
      Scale of classifier-free guidance, 0 to 1000; 1 and less is without. (default: what the model's \
      langevin.json recommends, else 7.5)
      """)
  var guidance: Double?
  @Option(
    parsing: .unconditional,
    help: "Sampling steps. (default: what the model's langevin.json recommends, else 30)")
  var steps: Int?
  @Option(
    help: """
      ddpm, ddim, euler, euler-a, dpmpp-2m or dpmpp-2m-karras. (default: what the model's langevin.json \
      recommends, else ddim)
      """)
  var sampler: Sampler?
  @Option(parsing: .unconditional, help: "DDIM's share of fresh noise, 0 to 1.")
  var eta = 0.0
  @Option(parsing: .unconditional, help: "Picture k has seed N + k. (default: random)")
  var seed: UInt64?
  @Option(help: "Whose random numbers: philox, torch (its CPU generator) or torch-cuda.")
  var rng = NoiseKind.philox
  @Option(parsing: .unconditional, help: "Pixels. (default: what the model was made for, or the image's)")
  var width: Int?
  @Option(parsing: .unconditional, help: "Pixels. (default: what the model was made for, or the image's)")
  var height: Int?
  @Option(parsing: .unconditional, help: "How many pictures.")
  var count = 1
  @Option(help: "A PNG file to start from.")
  var image: String?
  @Option(
    parsing: .unconditional, help: "How much of the schedule is run on the image, 0 to 1. (default: 0.7)")
  var strength: Double?
  @Option(help: "Storage of weights and activations: f32 or f16.")
  var precision = Precision.f32
  @Flag(
    name: .customLong("no-fallback"), help: "Fail where the device has no kernel, instead of using the CPU.")
  var noFallback = false
  @Option(help: "The picture's file; of several, numbered -0, -1, … (default: langevin-SEED.png)")
  var output: String?
  @Option(help: "Start from the tensor 'latents' [count, C, h, w] of a safetensors file.")
  var initLatents: String?
  @Option(help: "Write the final latents there, before decoding: 'latents' [count, C, h, w], float32.")
  var saveLatents: String?
  @Option(help: "What a single file predicts: epsilon, v_prediction or sample, where it cannot be told.")
  var prediction: PredictionOption?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Memory in MiB that an OpenCL device may use.", valueName: "MiB", visibility: .hidden))
  var deviceMemory: Int?
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false
  @Flag(help: "One JSON object on standard output at the end.")
  var json = false
  @Flag(help: "Also what the runtime does on the way.")
  var verbose = false

  func run() throws {
    Interrupt.install()
    let start = ContinuousClock.now
    try checkOptions()
    let choice = try DeviceChoice.parse(device)
    let seed = seed ?? UInt64.random(in: 0..<1 << 32)
    var display = ProgressDisplay(isShown: !quiet, count: count)

    // What can be found wrong at once comes before what takes time.
    let outputs = try outputs(seed: seed)
    let latentsURL = saveLatents.map { URL(fileURLWithPath: $0) }
    for url in outputs { try OutputFile.check(url) }
    if let latentsURL { try OutputFile.check(latentsURL) }
    let url = try model.map { URL(fileURLWithPath: $0) } ?? DefaultModel.url
    let checkpoint = try Checkpoint.open(url, prediction: prediction?.rawValue)
    let request = try request(seed: seed, recommended: checkpoint.recommended)
    warnOfOptionsWithoutEffect(request)

    let device = try choice.open(
      fallback: !noFallback, memoryLimit: deviceMemory.map { $0 << 20 }, notice: { Output.warning($0) })
    let pipeline = try StableDiffusion(checkpoint, on: device, precision: precision.dtype)
    var run = Run(start: start)
    let result: GenerationResult
    do {
      let settings =
        "\(request.steps) steps of \(request.sampler.rawValue), guidance \(Output.number(request.guidance))"
      var title = Optional("seed \(seed), \(settings), \(device.label), \(url.lastPathComponent)")
      result = try pipeline.generate(request) { event in
        // A finished picture is written first.
        if case .finished = event {} else { try Interrupt.check() }
        // Only once the request is known to be good.
        title.map { display.line($0) }
        title = nil
        try self.handle(event, request, outputs, url, &run, &display)
      }
    } catch var interrupted as Interrupted {
      display.close()
      interrupted.kept = run.written
      throw interrupted
    } catch {
      display.close()
      if !run.written.isEmpty { Output.note("langevin: kept \(run.written.joined(separator: ", "))") }
      throw error
    }
    if let latentsURL {
      let latents = try Tensor(result.latents.values, result.latents.shape, on: Device(CPUBackend()))
      try SafetensorsWriter.write([("latents", latents)], to: latentsURL)
    }
    warnOfFallbacks(device)
    display.line(run.summary)
    if json {
      try Output.json(
        Report(self, request, checkpoint.recommended, run: run, result: result, device: device, model: url))
    } else {
      for path in run.written { Output.result(path) }
    }
  }

  /// What does not depend on files, devices or the model.
  private func checkOptions() throws {
    guard (1...10_000).contains(count) else {
      throw ValidationError("--count must be 1 to 10000, got \(count)")
    }
    if strength != nil && image == nil { throw ValidationError("--strength needs --image") }
    if let deviceMemory, !(1..<1 << 32).contains(deviceMemory) {
      throw ValidationError("--device-memory must be at least 1 MiB, got \(deviceMemory)")
    }
  }

  private func warnOfOptionsWithoutEffect(_ request: GenerationRequest) {
    if eta != 0 && request.sampler != .ddim {
      Output.warning("--eta has no effect on the sampler \(request.sampler.rawValue)")
    }
    if request.guidance <= 1 && !negative.isEmpty {
      Output.warning("--negative has no effect without guidance (--guidance above 1)")
    }
  }

  private func handle(
    _ event: GenerationProgress, _ request: GenerationRequest, _ outputs: [URL], _ model: URL,
    _ run: inout Run,
    _ display: inout ProgressDisplay
  ) throws {
    switch event {
    case .loading(let component): display.line("loading the \(component)")
    case .truncated(_, let rest):
      display.close()
      Output.warning("the prompt is longer than the text encoder reads; cut off: '\(rest)'")
    case .sampling(let image, _): run.beginSampling(image: image)
    case .step(let step, let total, let image):
      let seconds = run.endStep()
      display.step(step, of: total, image: image, seconds: seconds)
    case .decoding: run.beginDecoding()
    case .finished(let picture, let image, let seed):
      run.endDecoding()
      let text = parameters(request, picture: picture, seed: seed, model: model).description
      try picture.writePNG(to: outputs[image], texts: [(PictureParameters.keyword, text)])
      run.written.append(Output.path(outputs[image]))
      display.close()
    }
  }

  private func warnOfFallbacks(_ device: Device) {
    let fallbacks = device.fallbacks
    guard fallbacks.operations > 0 else { return }
    let names = fallbacks.byName.sorted { $0.value > $1.value }.map { "\($0.key) \($0.value)" }
    Output.warning(
      "\(fallbacks.operations) operations ran on the CPU because \(device.name) has no kernel for them "
        + "(\(names.joined(separator: ", "))); \(Output.bytes(fallbacks.bytes)) were copied for it")
  }
}

extension Device {
  /// Its name and what it is.
  var label: String {
    if let backend = backend as? OpenCLBackend { return "\(name) (\(backend.description.name))" }
    return "\(name) (OpenBLAS, \(CPUBackend.blasCore), \(CPUBackend.cores) cores)"
  }
}
