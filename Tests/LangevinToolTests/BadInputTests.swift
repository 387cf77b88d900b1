import Foundation
import LangevinCPU
import LangevinTensor
import LangevinTestSupport
import Testing

@testable import Langevin
@testable import LangevinOpenCL

/// Every kind of bad input gives one clear line, a failing exit and nothing half-written.
struct BadInputTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  // MARK: The command line

  @Test(arguments: [
    (["--steps", "0"], "steps must be 1 to 10000, got 0"),
    (["--steps", "-5"], "steps must be 1 to 10000, got -5"),
    (["--steps", "1000000000"], "steps must be 1 to 10000"),
    (["--steps", "1001"], "1000 timesteps"),
    (["--guidance", "-1"], "guidance must be 0 to 1000, got -1"),
    (["--guidance", "nan"], "guidance must be 0 to 1000"),
    (["--guidance", "1e30"], "guidance must be 0 to 1000"),
    (["--eta", "2"], "eta must be 0 to 1, got 2"),
    (["--guidance-rescale", "1.5"], "guidance rescale must be 0 to 1, got 1.5"),
    (["--guidance-interval", "-1,3"], "guidance interval must be at least 0, got -1.0"),
    (
      ["--spacing", "karras"],
      "spacing karras: not with the sampler ddim: it takes leading, trailing, linspace"
    ),
    (["--sigmas", "9,3,1"], "the given sigmas: not with the sampler ddim"),
    (["--sampler", "euler", "--sigmas", "1,3,9"], "3 steps: the noise does not fall"),
    (["--sampler", "euler", "--sigmas", "9,3,1", "--steps", "5"], "the given sigmas are 3"),
    (["--sampler", "lcm", "--steps", "51"], "51 steps"),
    (["--width", "-8"], "width must be a multiple of 8"),
    (["--height", "0"], "height must be a multiple of 8"),
    (["--width", "60"], "width must be a multiple of 8"),
    (["--width", "100000000"], "up to 16384"),
    (["--batch", "0"], "batch must be 1 to 10000, got 0"),
    (["--fps", "8"], "has no use for the setting 'frames per second'"),
    (["--frames", "5"], "has no use for the setting 'frames'"),
  ])
  func badValuesAreNamed(arguments: [String], words: String) throws {
    try Tool.expectFailure(arguments + ["--device", "cpu"], status: 64, words: [words], in: scratch)
  }

  @Test(arguments: [
    (["--image", "/nonexistent.png"], "/nonexistent.png: no such file"),
    (["--init-latents", "/nonexistent.safetensors"], "/nonexistent.safetensors: no such file"),
  ])
  func missingInputsAreNamed(arguments: [String], words: String) throws {
    try Tool.expectFailure(arguments + ["--device", "cpu"], words: [words], in: scratch)
  }

  @Test(arguments: [
    (["--sampler", "foo"], ["foo", "ddpm", "dpmpp-2m-karras"]),
    (["--spacing", "foo"], ["foo", "leading", "karras", "beta"]), (["--sigmas", "9,x"], ["9,x"]),
    (["--sigmas", "9,1", "--spacing", "beta"], ["--spacing", "--sigmas"]),
    (["--guidance-interval", "3"], ["--guidance-interval", "LO,HI"]),
    (["--guidance-interval", "3,1"], ["--guidance-interval", "LO,HI"]),
    (["--rng", "foo"], ["foo", "philox", "torch-cuda"]),
    (["--device", "foo"], ["unknown device 'foo'", "auto", "cpu", "opencl:0"]),
    (["--device", "opencl:99"], ["no device opencl:99", "opencl:0"]),
    (["--count", "0"], ["--count must be 1 to 10000"]),
    (["--output", "picture.gif"], [".png", ".mp4"]),
    (["--strength", "0.5"], ["--image"]),
    (["--mask", "mask.png"], ["--mask needs --image"]),
    (["--canvas", "128x96"], ["--canvas needs --image"]),
    (["--canvas", "128", "--image", "in.png"], ["--canvas", "WxH"]),
    (["--bogus"], ["--bogus"]),
  ])
  func badUsageExitsWith64(arguments: [String], words: [String]) throws {
    try Tool.expectFailure(arguments, status: 64, words: words, in: scratch)
  }

  @Test func anUnwritableOutputIsFoundBeforeTheModelIsRead() throws {
    // The model does not exist either, and is not what the line is about.
    try Tool.expectFailure(
      ["--output", "/proc/nonexistent/picture.png", "--model", "/missing"],
      words: ["/proc/nonexistent/picture.png: cannot be written"], in: scratch)
    try Tool.expectFailure(
      ["--save-latents", "/proc/nonexistent/l.safetensors", "--model", "/missing"],
      words: ["/proc/nonexistent/l.safetensors: cannot be written"], in: scratch)
    try FileManager.default.createDirectory(at: scratch.url("folder.png"), withIntermediateDirectories: false)
    try Tool.expectFailure(["--output", "folder.png"], words: ["it is a folder"], in: scratch)
  }

  @Test func masksAndCanvasesThatFitNoImageAreNamed() throws {
    func picture(_ width: Int, _ height: Int, _ name: String) throws {
      let pixels = [UInt8](repeating: 200, count: width * height * 3)
      try Picture(width: width, height: height, pixels: pixels).writePNG(to: scratch.url(name))
    }
    try picture(64, 64, "in.png")
    try picture(32, 64, "narrow.png")
    func fail(_ arguments: [String], _ words: String, status: Int32 = 64) throws {
      try Tool.expectFailure(
        ["--device", "cpu", "--steps", "2"] + arguments, status: status, words: [words], in: scratch)
    }
    try fail(
      ["--image", "in.png", "--mask", "narrow.png"],
      "the mask is 32x64 and the image 64x64; they must be of one size")
    try fail(
      ["--image", "in.png", "--canvas", "96x48"], "a canvas must be at least as large as the image, 64x64")
    try fail(["--image", "in.png", "--mask", "none.png"], "none.png: no such file", status: 1)
    let inpainting = Fixtures.url.appending(path: "tiny-inpainting").path
    try fail(["--model", inpainting], "this checkpoint is for inpainting: it needs an image and a mask")
    try fail(["--model", inpainting, "--image", "in.png"], "it needs an image and a mask")
  }

  // MARK: Checkpoints

  private func fail(_ model: URL, words: [String]) throws {
    try Tool.expectFailure(
      ["--model", model.path, "--device", "cpu", "--steps", "2"], words: words, in: scratch)
  }

  private func unet(_ model: URL) -> URL {
    model.appendingPathComponent("unet/diffusion_pytorch_model.safetensors")
  }

  @Test func missingFilesAreNamed() throws {
    try fail(URL(fileURLWithPath: "/nonexistent"), words: ["/nonexistent: no such file"])
    let model = try scratch.model()
    for name in ["vae/config.json", "tokenizer/tokenizer.json", "model_index.json"] {
      let file = model.appendingPathComponent(name)
      let content = try Data(contentsOf: file)
      try FileManager.default.removeItem(at: file)
      try fail(model, words: [name.hasPrefix("tokenizer") ? "tokenizer" : name])
      try content.write(to: file)
    }
    try FileManager.default.removeItem(at: unet(model))
    try fail(model, words: ["unet", "no such file"])
  }

  @Test func aTruncatedCheckpointIsRefused() throws {
    let model = try scratch.model()
    let whole = try Data(contentsOf: unet(model))
    for length in [0, 4, 1000, whole.count / 2, whole.count - 1] {
      try whole.prefix(length).write(to: unet(model))
      try fail(model, words: ["unet/diffusion_pytorch_model.safetensors: "])
    }
  }

  @Test func aWrongShapeIsNamed() throws {
    let model = try scratch.model()
    var edit = try SafetensorsEdit(unet(model))
    var entry = try edit.entry("conv_in.weight")
    let shape = try #require(entry["shape"] as? [Int])
    entry["shape"] = [shape.reduce(1, *)]
    edit.header["conv_in.weight"] = entry
    try edit.save()
    try fail(model, words: ["conv_in.weight has shape [\(shape.reduce(1, *))]", "needs"])
  }

  @Test func aMissingTensorIsNamed() throws {
    let model = try scratch.model()
    var edit = try SafetensorsEdit(unet(model))
    edit.header["something.else"] = edit.header.removeValue(forKey: "conv_out.bias")
    try edit.save()
    try fail(model, words: ["conv_out.bias is missing"])
  }

  @Test func anUnknownTensorIsNamed() throws {
    let model = try scratch.model()
    var edit = try SafetensorsEdit(unet(model))
    edit.header["surprise.weight"] = [
      "dtype": "F32", "shape": [1], "data_offsets": [edit.data.count, edit.data.count + 4],
    ]
    edit.data += Data(count: 4)
    try edit.save()
    try fail(model, words: ["surprise.weight"])
  }

  @Test(arguments: [
    ("model_index.json", "StableDiffusionPipeline", "LTXPipeline"),
    ("model_index.json", "UNet2DConditionModel", "SD3Transformer2DModel"),
    ("scheduler/scheduler_config.json", "DDIMScheduler", "ScoreSdeVeScheduler"),
  ])
  func anUnsupportedClassIsNamed(file: String, from: String, to: String) throws {
    let model = try scratch.model()
    let url = model.appendingPathComponent(file)
    let text = try String(contentsOf: url, encoding: .utf8)
    try text.replacingOccurrences(of: from, with: to).write(to: url, atomically: true, encoding: .utf8)
    try fail(model, words: [to])
  }

  @Test(arguments: [
    "unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json",
  ])
  func aBrokenConfigIsNamed(file: String) throws {
    let model = try scratch.model()
    let url = model.appendingPathComponent(file)
    try Data("{\"broken\": ".utf8).write(to: url)
    try fail(model, words: [file])
    // Valid JSON of the wrong kind.
    try Data("[1, 2]".utf8).write(to: url)
    try fail(model, words: [file])
  }

  @Test func aPickleIsRefusedWithTheWayOut() throws {
    let pickle = scratch.url("model.ckpt")
    try Data([0x80, 0x02, 0x7D, 0x71, 0x00, 0x2E]).write(to: pickle)
    try fail(pickle, words: ["pickle", "convert it with"])
  }

  @Test func initialLatentsOfAnotherShapeAreRefused() throws {
    let file = scratch.url("latents.safetensors")
    let latents = try Tensor([Float](repeating: 0, count: 8), [1, 4, 1, 2], on: Device(CPUBackend()))
    try SafetensorsWriter.write([("latents", latents)], to: file)
    try Tool.expectFailure(
      ["--init-latents", file.path, "--device", "cpu"], status: 64,
      words: ["[1, 4, 1, 2]", "expected [1, 4, 16, 16]"],
      in: scratch)
  }

  // MARK: Numbers

  @Test func nanInTheWeightsIsNamedWithStepAndOperation() throws {
    let model = try scratch.model()
    var edit = try SafetensorsEdit(unet(model))
    let range = try #require(try edit.entry("conv_in.weight")["data_offsets"] as? [Int])
    #expect(try edit.entry("conv_in.weight")["dtype"] as? String == "F16")
    edit.data.replaceSubrange(range[0]..<range[0] + 2, with: [0x00, 0x7E])
    try edit.save()
    for device in ["cpu", try Tool.pocl()] {
      try Tool.expectFailure(
        ["--model", model.path, "--device", device, "--steps", "2"], words: ["step 1 of 2", "conv2d"],
        in: scratch)
    }
  }

  @Test func nanInTheTextEncoderIsNamed() throws {
    let model = try scratch.model()
    var edit = try SafetensorsEdit(model.appendingPathComponent("text_encoder/model.safetensors"))
    let name = try #require(edit.header.keys.first { $0.hasSuffix("final_layer_norm.weight") })
    let range = try #require(try edit.entry(name)["data_offsets"] as? [Int])
    edit.data.replaceSubrange(range[0]..<range[0] + 2, with: [0x00, 0x7E])
    try edit.save()
    try fail(model, words: ["the text encoder", "layer_norm"])
  }

  // MARK: Devices

  @Test func withoutOpenCLTheProcessorIsUsedAndSaidSo() throws {
    let none = scratch.url("no-drivers")
    try FileManager.default.createDirectory(at: none, withIntermediateDirectories: false)
    let environment = ["OCL_ICD_VENDORS": none.path + "/"]
    try Tool.expectFailure(
      ["--device", "opencl"], words: ["no OpenCL device"], environment: environment, in: scratch)
    let outcome = try Tool.generate(
      ["--steps", "2", "--output", "p.png"], in: scratch.folder, environment: environment)
    #expect(outcome.status == 0)
    #expect(outcome.errors.contains("warning: using the CPU backend: there is no OpenCL device here"))
    let listing = try Tool.run(["devices"], in: scratch.folder, environment: environment)
    #expect(listing.output.contains("no OpenCL driver is installed; `langevin doctor` says what to do"))
  }

  @Test func aDriverThatDoesNotLoadIsNamed() throws {
    let drivers = scratch.url("drivers")
    try FileManager.default.createDirectory(at: drivers, withIntermediateDirectories: false)
    try Data("libmissing_driver.so.1\n".utf8).write(to: drivers.appendingPathComponent("missing.icd"))
    let listing = try Tool.run(
      ["devices"], in: scratch.folder, environment: ["OCL_ICD_VENDORS": drivers.path + "/"])
    #expect(listing.output.contains("missing.icd: cannot be used: libmissing_driver.so.1"))
  }

  @Test func runningOutOfMemorySaysHowMuchAndWhatToTry() throws {
    let outcome = try Tool.generate(
      ["--device", try Tool.pocl(), "--device-memory", "8"], in: scratch.folder)
    #expect(outcome.status == 1 && outcome.errorLines.count == 2, "\(outcome.errors)")
    #expect(try scratch.files().isEmpty)
    // Foreseen, and then so.
    for (line, words) in zip(
      outcome.errorLines,
      [["warning: this needs", "offers 8 MiB"], ["out of memory", "asked for", "in use of 8 MiB", "try"]])
    {
      for word in words { #expect(line.contains(word), "no '\(word)' in: \(line)") }
    }
  }

  @Test func aKernelThatDoesNotBuildKeepsTheLogInAFile() throws {
    let index = try #require(Int(Tool.pocl().dropFirst("opencl:".count)))
    let backend = try OpenCLBackend(index: index, programCache: scratch.url("cache"))
    let error = #expect(throws: OpenCLError.self) {
      try backend.parameters(of: "any", .noise, options: "-Dget_global_id=no_such_function")
    }
    let text = try #require(error).description
    #expect(text.contains("'noise' does not build") && text.contains("no_such_function"), "\(text)")
    #expect(!text.contains("\n") && text.count < 600, "\(text)")
    let path = try #require(text.components(separatedBy: "the compiler says is in ").last)
    #expect(path.hasPrefix(scratch.url("build-logs/noise-").path))
    let log = try String(contentsOfFile: path, encoding: .utf8)
    #expect(log.contains("\n") && log.contains("no_such_function") && log.hasPrefix("noise "))
  }

  /// PoCL keeps programs by itself; ours is the list of those that it has compiled.
  @Test func aCorruptListOfCompiledKernelsIsMadeAnew() throws {
    let device = try Tool.pocl()
    let cache = scratch.url("cache")
    let arguments = ["--device", device, "--steps", "1", "--seed", "1", "--output", "p.png"]
    let environment = ["XDG_CACHE_HOME": cache.path]
    func run() throws -> Picture {
      let outcome = try Tool.generate(arguments, in: scratch.folder, environment: environment)
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
      return try Picture.read(scratch.url("p.png")).picture
    }
    let picture = try run()
    let programs = cache.appendingPathComponent("langevin/programs")
    let name = try #require(FileManager.default.contentsOfDirectory(atPath: programs.path).first)
    let url = programs.appendingPathComponent(name)
    let whole = try Data(contentsOf: url)
    var turned = whole
    turned[turned.count / 2] ^= 1
    for damaged in [whole.prefix(whole.count / 2), Data(), turned] {
      try damaged.write(to: url)
      #expect(try run() == picture)
      let mended = try String(decoding: Data(contentsOf: url), as: UTF8.self).split(separator: "\n")
      #expect(mended.count >= String(decoding: whole, as: UTF8.self).split(separator: "\n").count)
    }
  }
}
