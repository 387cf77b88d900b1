import ArgumentParser
import Langevin
import LangevinDiffusion
import LangevinTensor

// The groups of options that `--help` shows; rare options have none and come last.

/// The model, and where it runs.
struct ModelOptions: ParsableArguments {
  @Option(
    name: [.customShort("m"), .long],
    help: """
      A diffusers folder, a single .safetensors or .gguf file, or org/name of the Hugging Face cache. (default: the emoji \
      model that ships along)
      """)
  var model: String?
  @Option(
    help: ArgumentHelp(
      """
      A UNet alone, or a transformer of Stable Diffusion 3, FLUX.1 or WAN, which takes the place of the model's: a \
      .gguf or .safetensors file of the same architecture, as ComfyUI-GGUF and stable-diffusion.cpp write them.
      """, valueName: "FILE"))
  var unet: String?
  @Option(
    help: ArgumentHelp(
      """
      A LoRA of this model, as diffusers, PEFT, kohya's scripts or LyCORIS write it, SCALE times as strong; may be given \
      again. (default of SCALE: 1)
      """, valueName: "FILE[:SCALE]"))
  var lora: [LoRAOption] = []
  @Option(
    help: ArgumentHelp(
      "Where the LoRAs are that prompts name with <lora:NAME:SCALE>; the model does not see these words.",
      valueName: "DIR"))
  var loraDir: String?
  @Option(
    help: ArgumentHelp(
      """
      A textual inversion: TOKEN in a prompt stands for what it learned; may be given again. (default of TOKEN: the \
      file's own, or its name)
      """, valueName: "FILE[:TOKEN]"))
  var embedding: [EmbeddingOption] = []
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "Storage of weights and activations: f32, f16 or bf16. (default: f32)")
  var precision: Precision?
  @Option(
    help: """
      Keep the networks' weights in blocks, which take less memory: q8_0, q6_K, q5_0, q4_K or q4_0, from 8 bits a number \
      to 4. Autoencoders stay as they are. (default: as the model's file has them)
      """)
  var encoding: BlockEncoding?
  @Option(
    help: """
      How products with weights in q8_0 are computed: f32, or int8, which rounds what they are multiplied with to 8 bits \
      too and is quicker where the processor has instructions for it. (default: f32)
      """)
  var arithmetic: ProductArithmetic?
}

/// What is drawn.
struct PictureOptions: ParsableArguments {
  @Option(help: "What to steer away from.")
  var negative: String?
  @Option(
    name: [.customShort("W"), .long], parsing: .unconditional,
    help: "Pixels. (default: what the model was made for, or the image's)")
  var width: Int?
  @Option(
    name: [.customShort("H"), .long], parsing: .unconditional,
    help: "Pixels. (default: what the model was made for, or the image's)")
  var height: Int?
  @Option(
    name: [.customShort("n"), .long], parsing: .unconditional, help: "How many pictures of each prompt.")
  var count = 1
  @Option(
    parsing: .unconditional,
    help: "How many pictures are computed at once: faster on graphics cards, and takes more memory.")
  var batch = 1
  @Option(
    name: [.customShort("s"), .long], parsing: .unconditional,
    help: "Picture k has seed N + k. (default: random)")
  var seed: UInt64?
  @Option(
    help: """
      A file with more prompts, one a line; empty lines and lines that begin with # are skipped. In a .jsonl file each \
      line is an object: prompt, and where they differ from the command line negative_prompt, seed, steps, guidance, \
      sampler, width and height.
      """)
  var promptFile: String?
  @Option(
    help: """
      A picture to repeat: prompt and settings are those that it carries, where the command line has no others. The \
      same device gives the same picture.
      """)
  var from: String?
}

/// How noise becomes a picture.
struct SamplingOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: """
      Sampling steps. (default: what the model's langevin.json recommends, else 30; unCLIP 25, stable unCLIP 20, \
      Stable Diffusion 3 and FLUX.1 dev 28, schnell 4, WAN 50)
      """)
  var steps: Int?
  @Option(
    help: """
      \(SamplerRegistry.all.map(\.name).joined(separator: ", ")); `langevin samplers` says what each is for. \
      Other tools' names are understood too, such as 'DPM++ 2M Karras' and euler_a. (default: what the model's \
      langevin.json recommends, else ddim for Stable Diffusion 1 and 2, the model's scheduler for others)
      """,
    transform: SamplerOption.init)
  var sampler: SamplerOption?
  @Option(
    parsing: .unconditional,
    help: """
      Scale of classifier-free guidance, 0 to 1000; 1 and less is without. (default: what the model's \
      langevin.json recommends, else 7.5; Stable Diffusion XL and WAN 5, Stable Diffusion 3 7, FLUX.1 dev 3.5, unCLIP 8, stable \
      unCLIP 10)
      """)
  var guidance: Double?
}

/// The pictures that a run starts from.
struct ImageOptions: ParsableArguments {
  @Option(
    help: """
      A PNG, JPEG or WebP file to start from, to vary, or that a video begins with, as the model does; of two, some \
      models make --count frames of the way between.
      """)
  var image: [String] = []
  @Option(
    help: """
      A picture of the image's size: where it is white, the image is drawn anew, where it is black, kept. Any \
      checkpoint does it; those for inpainting need it.
      """)
  var mask: String?
  @Option(
    help: ArgumentHelp(
      "The image is put in the middle of a canvas of W by H pixels, and what is around it is drawn.",
      valueName: "WxH"))
  var canvas: CanvasSize?
  @Option(help: "How an image becomes one of --width and --height: crop, pad or stretch. (default: crop)")
  var imageFit: ImageFit?
  @Option(
    parsing: .unconditional,
    help: """
      How much of the schedule is run on the image, 0 to 1. (default: 0.7; XL 0.3; with a mask or a canvas 1)
      """)
  var strength: Double?
}

/// Settings that only videos have.
struct VideoOptions: ParsableArguments {
  @Option(parsing: .unconditional, help: "Of a video: pictures in time. (default: the model's)")
  var frames: Int?
  @Option(parsing: .unconditional, help: "Of a video: pictures a second. (default: the model's)")
  var fps: Double?
}
