import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A control whose network has seen its picture.
enum LoadedControl: Sendable {
  case controlNet(ControlNetModel, hint: Tensor, scale: Float)
  /// What a T2I-Adapter adds in every step.
  case features(UNetAdditions)
}

/// A control whose network is loaded.
struct ControlModel {
  private enum Network {
    case controlNet(ControlNetModel)
    case adapter(T2IAdapter)
  }

  private let control: Control
  private let dtype: DType
  private let name: String
  private let network: Network

  /// `name` is for progress and messages.
  init(_ control: Control, as dtype: DType, name: String, _ run: GenerationRun) throws {
    (self.control, self.dtype, self.name) = (control, dtype, name)
    let weights = Weights(
      control.network.component.weights, on: run.device, as: dtype,
      component: name.replacing(" ", with: "_"))
    network = try run.load(name, isOfRequest: true) {
      switch control.network.kind {
      case .controlNet(let config): .controlNet(try ControlNetModel(config, weights))
      case .adapter(let config): .adapter(try T2IAdapter(config, weights))
      }
    }
  }

  /// The network once it has seen its picture, which is brought to the size of what is drawn.
  func seeing(width: Int, height: Int, fit: ImageFit, _ run: GenerationRun) throws -> LoadedControl {
    let picture = control.picture.fitted(width: width, height: height, fit)
    let pixels = try picture.controlTensor(channels: control.network.channels, on: run.device).cast(to: dtype)
    let scale = Float(control.scale)
    switch network {
    case .controlNet(let model):
      let hint = try run.compute(name, "the \(name)") { try model.hint(pixels) }
      return .controlNet(model, hint: hint, scale: scale)
    case .adapter(let model): return .features(try stage(name) { try model(pixels, scale: scale) })
    }
  }
}

extension Picture {
  /// As control networks read it: float32 [1, H, W, channels] in 0...1; one channel is grey, as Pillow's `L`.
  func controlTensor(channels: Int, on device: Device) throws -> Tensor {
    switch channels {
    case 3: return try Tensor(pixels.map { Float($0) / 255 }, [1, height, width, 3], on: device)
    case 1:
      let grey = stride(from: 0, to: pixels.count, by: 3).map { place -> Float in
        let (red, green, blue) = (Int(pixels[place]), Int(pixels[place + 1]), Int(pixels[place + 2]))
        return Float((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) / 255
      }
      return try Tensor(grey, [1, height, width, 1], on: device)
    default:
      throw GenerationError.badRequest("a control network of \(channels) channels; pictures have 3 or 1")
    }
  }
}

/// What an image prompt's encoder makes of its pictures.
struct EncodedImagePrompt: Sendable {
  let adapter: ImagePromptAdapter
  let scale: Float
  /// Of the pictures, as the adapter takes them: [P, C] or [P, T, C].
  let pictures: Tensor
  /// Of no pictures, in the place of those.
  let negative: Tensor

  /// Runs the image encoder, and frees it.
  init(_ prompt: ImagePrompt, as dtype: DType, _ run: GenerationRun) throws {
    let adapter = prompt.adapter
    let weights = Weights(
      adapter.encoder.weights, on: run.device, as: dtype, component: "image_encoder")
    let model = try run.load("image encoder", isOfRequest: true) {
      try CLIPVisionModelWithProjection(adapter.encoderConfig, weights)
    }
    func encoded(_ pixels: Tensor) throws -> Tensor {
      try run.compute("image encoder", "the image encoder") {
        let output = try model(pixels)
        return adapter.takesStates ? output.vision.hiddenState : output.imageEmbeds
      }
    }
    let pixels = try adapter.preparation(prompt.pictures, on: run.device).cast(to: dtype)
    let pictures = try encoded(pixels)
    (self.adapter, scale, self.pictures) = (adapter, Float(prompt.scale), pictures)
    // Zeros take the place of the embedding, or of the pixels.
    negative =
      adapter.takesStates
      ? try encoded(.fill(0, pixels.shape, dtype: dtype, on: run.device))
      : try .fill(0, pictures.shape, dtype: dtype, on: run.device)
  }

  /// Loads the adapter of a UNet.
  func load(_ unet: UNet2DConditionConfig, as dtype: DType, _ run: GenerationRun) throws -> LoadedImagePrompt
  {
    let weights = Weights(adapter.file, on: run.device, as: dtype, component: "ip_adapter")
    let model = try run.load("image prompt adapter", isOfRequest: true) { try IPAdapter(unet, weights) }
    func tokens(_ pictures: Tensor) throws -> Tensor {
      let each = try model.tokens(pictures)
      return try each.reshaped([1, each.shape[0] * each.shape[1], each.shape[2]])
    }
    return try stage("image prompt adapter") {
      LoadedImagePrompt(
        adapter: model, scale: scale, prompt: try tokens(pictures), negative: try tokens(negative))
    }
  }
}

/// An image prompt as the UNet takes it.
struct LoadedImagePrompt: Sendable {
  let adapter: IPAdapter
  let scale: Float
  /// The tokens of all pictures, [1, S, C].
  let prompt: Tensor
  /// Those of none.
  let negative: Tensor

  /// Texts of `count` images with the tokens beside them.
  func inputs(_ texts: Conditioned<UNetConditioning>, count: Int) throws -> Conditioned<UNetInput> {
    func rows(_ tokens: Tensor) throws -> Tensor {
      try tokens.broadcast(to: tokens.shape.replacing(axis: 0, with: count))
    }
    switch texts {
    case .plain(let texts): return .plain(UNetInput(texts, imageTokens: try rows(prompt)))
    case .guided(let without, let texts):
      return .guided(
        negative: UNetInput(without, imageTokens: try rows(negative)),
        prompt: UNetInput(texts, imageTokens: try rows(prompt)))
    }
  }
}
