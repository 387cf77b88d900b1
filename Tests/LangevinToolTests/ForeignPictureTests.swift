import Foundation
import Langevin
import LangevinDiffusion
import Testing

/// Pictures of other tools are repeated from what they carry.
@Suite struct ForeignPictureTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private static let checkpoint =
    #""4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd/v1.ckpt"}}"#
  private static let texts = #"""
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a (red:1.4) heart", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blue", "clip": ["4", 1]}}
    """#
  private static let sampler = #"""
    "3": {"class_type": "KSampler", "inputs": {"seed": 11, "steps": 3, "cfg": 3.5, "sampler_name": "dpmpp_2m",
      "scheduler": "karras", "denoise": 1, "model": ["MODEL", 0], "positive": ["6", 0], "negative": ["7", 0],
      "latent_image": ["LATENT", 0]}, "is_changed": [NaN]}
    """#
  private static let latent = #"""
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 72, "batch_size": 1}}
    """#

  private static func graph(model: String = "4", latent: String = "5", _ more: [String] = []) -> String {
    let sampler = sampler.replacing("MODEL", with: model).replacing("LATENT", with: latent)
    return "{" + ([checkpoint, texts, sampler, Self.latent] + more).joined(separator: ",") + "}"
  }

  private func generate(_ arguments: [String]) throws -> Tool.Outcome {
    let outcome = try Tool.run(["generate", "--device", "cpu"] + arguments, in: scratch.folder)
    #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
    return outcome
  }

  private func picture(_ name: String) throws -> Picture { try Picture.read(scratch.url(name)).picture }

  private func carrier(_ keyword: String, _ text: String) throws {
    let grey = try Picture(width: 8, height: 8, pixels: [UInt8](repeating: 99, count: 192))
    try grey.writePNG(to: scratch.url("other.png"), texts: [(keyword, text)])
  }

  private static let same = [
    "a (red:1.4) heart", "--negative", "blue", "--prompt-syntax", "a1111", "--steps", "3", "--sampler",
    "dpmpp-2m",
    "--spacing", "karras", "--guidance", "3.5", "--seed", "11", "--width", "64", "--height", "72",
  ]

  @Test func aPictureOfA1111IsRepeated() throws {
    try carrier(
      "parameters",
      """
      a (red:1.4) heart
      Negative prompt: blue
      Steps: 3, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 3.5, Seed: 11, Size: 64x72, Denoising strength: \
      0.5, Model hash: 6ce0161689, Model: v1-5, Clip skip: 2, Version: v1.10.1
      """)
    let model = try ["--model", DefaultModel.url.path]
    let repeated = try generate(["--from", "other.png", "--output", "a.png"] + model)
    #expect(repeated.errors.contains("Clip skip") && repeated.errors.contains("denoising strength"))
    _ = try generate(Self.same + ["--rng", "torch-cuda", "--output", "b.png"] + model)
    #expect(try picture("a.png") == picture("b.png"))
    // Without it the picture's own must be there.
    let outcome = try Tool.run(["generate", "--from", "other.png"], in: scratch.folder)
    #expect(outcome.status == 1 && outcome.errors.contains("the model 'v1-5'"), "\(outcome.errors)")
  }

  @Test func aSecondPassOfA1111IsRepeated() throws {
    try carrier(
      "parameters",
      """
      a (red:1.4) heart
      Negative prompt: blue
      Steps: 3, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 11, Size: 64x72, Denoising strength: \
      0.7, Hires upscale: 1.5, Hires upscaler: Latent, Version: v1.10.1
      """)
    let repeated = try generate(["--from", "other.png", "--output", "a.png"])
    #expect(!repeated.errors.contains("warning"), "\(repeated.errors)")
    _ = try generate(
      Self.same + [
        "--rng", "torch-cuda", "--hires", "1.5", "--hires-strength", "0.7", "--hires-by", "latent",
        "--output", "b.png",
      ])
    #expect(try picture("a.png") == picture("b.png"))
    #expect(try picture("a.png").width == 96)
  }

  @Test func aPictureOfComfyUIIsRepeated() throws {
    try carrier("prompt", Self.graph())
    let model = try ["--model", DefaultModel.url.path]
    _ = try generate(["--from", "other.png", "--output", "a.png"] + model)
    _ = try generate(Self.same + ["--rng", "torch", "--output", "b.png"] + model)
    #expect(try picture("a.png") == picture("b.png"))
    let info = try Tool.run(["info", "other.png"], in: scratch.folder)
    #expect(info.output.contains("of ComfyUI") && info.output.contains("v1"), "\(info.output)")
  }

  @Test func anotherModelThanThePicturesIsSaid() throws {
    _ = try generate(["a face", "--steps", "1", "--seed", "1", "--output", "a.png"])
    let text = try #require(try Picture.read(scratch.url("a.png")).texts["parameters"])
    let hash = try #require(PictureParameters(parsing: text)["Model hash"])
    try carrier("parameters", text.replacing(hash, with: "0123456789"))
    for (name, isOther) in [("a.png", false), ("other.png", true)] {
      let outcome = try generate(["--from", name, "--output", "b.png"])
      #expect(outcome.errors.contains("0123456789") == isOther, "\(outcome.errors)")
    }
  }

  // MARK: Graphs

  @Test func lorasOfAGraphAreTagsOfThePrompt() throws {
    let loras = [
      #""8": {"class_type": "LoraLoader", "inputs": {"lora_name": "a/ink.v2.safetensors", "strength_model": 0.8, "strength_clip": 0.8, "model": ["9", 0]}}"#,
      #""9": {"class_type": "LoraLoaderModelOnly", "inputs": {"lora_name": "fox.safetensors", "strength_model": 1, "model": ["4", 0]}}"#,
    ]
    let parameters = try PictureParameters(comfyUI: Self.graph(model: "8", loras), path: "x.png")
    #expect(parameters.prompt == "a (red:1.4) heart <lora:fox:1> <lora:ink.v2:0.8>")
    #expect(parameters["Model"] == "v1" && parameters["Size"] == "64x72" && parameters["RNG"] == "CPU")
    let two = loras[0].replacing(#""strength_clip": 0.8"#, with: #""strength_clip": 0.5"#)
    let error = try #require(throws: ImageError.self) {
      try PictureParameters(comfyUI: Self.graph(model: "8", [two, loras[1]]), path: "x.png")
    }
    #expect("\(error)".contains("two strengths"), "\(error)")
  }

  @Test func aPictureToStartFromIsNamed() throws {
    let nodes = [
      #""10": {"class_type": "VAEEncode", "inputs": {"pixels": ["11", 0], "vae": ["4", 2]}}"#,
      #""11": {"class_type": "LoadImage", "inputs": {"image": "cat.png"}}"#,
    ]
    let parameters = try PictureParameters(comfyUI: Self.graph(latent: "10", nodes), path: "x.png")
    #expect(parameters["Init image"] == "cat.png" && parameters["Denoising strength"] == "1")
    #expect(parameters["Size"] == nil)
  }

  @Test func graphsThatCannotBeRepeatedAreOneLine() throws {
    let other = sampler(of: #""12": {"class_type": "KSampler", "inputs": {}}"#)
    for (text, words) in [
      ("no graph", "no graph"), ("{}", "0 nodes of the kind KSampler"),
      (other, "2 nodes of the kind KSampler"),
      (Self.graph(latent: "10", [#""10": {"class_type": "Strange", "inputs": {}}"#]), "Strange"),
    ] {
      let error = try #require(throws: ImageError.self) {
        try PictureParameters(comfyUI: text, path: "x.png")
      }
      #expect("\(error)".contains(words) && "\(error)".contains("x.png"), "\(error)")
    }
    // A graph that goes around in a circle ends.
    let circle = #""8": {"class_type": "Patch", "inputs": {"model": ["8", 0]}}"#
    #expect(try PictureParameters(comfyUI: Self.graph(model: "8", [circle]), path: "x.png")["Model"] == nil)
  }

  private func sampler(of node: String) -> String { Self.graph([node]) }
}
