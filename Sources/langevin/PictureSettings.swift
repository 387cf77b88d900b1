import ArgumentParser
import Foundation
import Langevin
import LangevinDiffusion
import LangevinTensor

/// A setting in a picture's text: its key (A1111's, where it has one), what is written, and how `--from`
/// takes it up.
struct PictureSetting {
  /// One image of a run.
  struct Made {
    let record: PictureRecord
    let clip: Clip
    let image: Int
    let seed: UInt64
    var options: GenerationOptions { record.options }
    var request: GenerationRequest { record.request }
    /// Of the first pass.
    var size: String {
      guard request.highResolution != nil, let width = request.width, let height = request.height else {
        return "\(clip.picture.width)x\(clip.picture.height)"
      }
      return "\(width)x\(height)"
    }
  }

  /// What `read` works on.
  struct Reading {
    /// What the command line says, which comes first.
    let given: GenerationOptions
    let picture: URL
    var options: GenerationOptions
    let parameters: PictureParameters

    /// Throws `ImageError` where the picture has no settings.
    init(_ path: String, given: GenerationOptions) throws {
      picture = URL(fileURLWithPath: path)
      parameters = try PictureParameters(of: Picture.read(picture), path: path).forLangevin()
      (self.given, options) = (given, given)
    }
  }

  let key: String
  /// More than one for several input files, none where there is nothing to say.
  let write: (Made) -> [String]
  /// Throws where a value cannot be taken up. Not called where the picture has no such key.
  let read: (_ values: [String], inout Reading) throws -> Void

  /// A setting of one value that one option holds.
  private static func option<Value: LosslessStringConvertible>(
    _ key: String, _ path: WritableKeyPath<GenerationOptions, Value?>, _ value: @escaping (Made) -> Value?
  ) -> PictureSetting {
    option(key, path, { Value($0) }, write: { made in value(made).map { Output.plain($0) } })
  }

  private static func option<Value>(
    _ key: String, _ path: WritableKeyPath<GenerationOptions, Value?>, _ parse: @escaping (String) -> Value?,
    unless isSuperseded: @escaping (GenerationOptions) -> Bool = { _ in false },
    write: @escaping (Made) -> String?
  ) -> PictureSetting {
    PictureSetting(
      key: key, write: { made in [write(made)].compactMap { $0 } },
      read: { values, reading in
        guard reading.given[keyPath: path] == nil, !isSuperseded(reading.given) else { return }
        guard let value = parse(values[0]) else { throw PictureSetting.unknown(key, values[0], reading) }
        reading.options[keyPath: path] = value
      })
  }

  private static func note(_ key: String, _ write: @escaping (Made) -> String?) -> PictureSetting {
    PictureSetting(key: key, write: { made in [write(made)].compactMap { $0 } }, read: { _, _ in })
  }

  static func unknown(_ key: String, _ value: String, _ reading: Reading) -> ImageError {
    .malformed(
      path: Output.path(reading.picture), reason: "its setting '\(key): \(value)' cannot be taken up")
  }

  /// In the order in which they are written.
  static var all: [PictureSetting] {
    [
      option(
        "Steps", \.steps, { Int($0) }, unless: { $0.sigmas != nil },
        write: { $0.request.steps.map(String.init) }),
      option("Sampler", \.sampler, { try? SamplerOption($0) }, write: { $0.request.sampler?.title }),
      option(
        "Schedule type", \.spacing, SpacingOption.init, unless: { !$0.takesLevels },
        write: { $0.options.spacing?.name.capitalized }),
      option(
        "Sigmas", \.sigmas, numbers, unless: { !$0.takesLevels || $0.steps != nil },
        write: { $0.options.sigmas.map(text) }),
      option("CFG scale", \.guidance) { $0.request.guidance },
      option("CFG rescale", \.guidanceRescale) { $0.request.guidanceRescale },
      option("CFG interval", \.guidanceInterval, numbers, write: { $0.options.guidanceInterval.map(text) }),
      option("Seed", \.seed) { $0.seed },
      // Where the model has one size, it is no setting.
      PictureSetting(key: "Size", write: { $0.request.width == nil ? [] : [$0.size] }, read: readSize),
      note("Output size") { $0.request.width == nil ? $0.size : nil },
      note("Model hash") { $0.record.modelHash.short },
      PictureSetting(key: "Model", write: { [$0.record.model] }, read: readModel),
      // Its hash is the model's.
      PictureSetting(
        key: "UNet",
        write: { [$0.options.unet.map { URL(fileURLWithPath: $0).lastPathComponent }].compactMap { $0 } },
        read: readUNet),
      PictureSetting(key: "LoRA", write: { $0.record.additions.loras.map(\.name) }, read: readLoRAs),
      PictureSetting(
        key: "LoRA scale", write: { $0.record.additions.loras.map { Output.number($0.scale) } },
        read: { _, _ in }),
      PictureSetting(key: "LoRA hash", write: { $0.record.additions.loras.map(\.sha256) }, read: { _, _ in }),
      PictureSetting(
        key: "Lora hashes", write: { [$0.record.additions.taggedHashes].filter { !$0.isEmpty } },
        read: readTags),
      PictureSetting(
        key: "Embedding", write: { $0.record.additions.embeddings.map(\.name) }, read: readEmbeddings),
      PictureSetting(
        key: "Embedding token", write: { $0.record.additions.embeddings.map(\.token) }, read: { _, _ in }),
      PictureSetting(
        key: "Embedding hash", write: { $0.record.additions.embeddings.map(\.sha256) }, read: { _, _ in }),
    ] + controls + [
      option("Prediction", \.prediction, PredictionOption.init, write: { $0.options.prediction?.rawValue }),
      PictureSetting(key: "Init image", write: { $0.record.images.map(\.name) }, read: readImages),
      PictureSetting(
        key: "Hires upscale",
        write: { [$0.request.highResolution.map { Output.number($0.scale) }].compactMap { $0 } },
        read: readHires),
      PictureSetting(
        key: "Hires strength",
        write: { [$0.request.highResolution.map { Output.number($0.strength) }].compactMap { $0 } },
        read: readHiresStrength),
      PictureSetting(
        key: "Hires upscaler", write: { [$0.request.highResolution?.enlargingName].compactMap { $0 } },
        read: readHiresUpscaler),
      note("Hires upscaler hash") { $0.record.hiresHash },
      PictureSetting(
        key: "Denoising strength", write: { [$0.request.strength.map(Output.number)].compactMap { $0 } },
        read: readStrength),
      option("Image fit", \.imageFit, ImageFit.init(rawValue:)) { $0.options.imageFit?.rawValue },
      PictureSetting(key: "Init image hash", write: { $0.record.images.map(\.sha256) }, read: { _, _ in }),
      PictureSetting(key: "Mask", write: { [$0.record.mask?.name].compactMap { $0 } }, read: readMask),
      note("Mask hash") { $0.record.mask?.sha256 },
      option(
        "Canvas", \.canvas, CanvasSize.init(argument:), unless: { !$0.image.isEmpty },
        write: { $0.options.canvas?.text }),
      PictureSetting(
        key: "Init latents", write: { [$0.record.latents?.name].compactMap { $0 } }, read: readLatents),
      note("Init latents hash") { $0.record.latents?.sha256 },
      option(
        "Init latents index", \.initLatentsIndex, { Int($0) }, unless: { $0.initLatents != nil },
        write: { $0.options.initLatents == nil ? nil : String($0.options.initLatentsIndex ?? $0.image) }),
      option("Cache", \.cache, { UNetCache($0) }, write: { $0.request.cache?.text }),
      option("Eta", \.eta) { $0.request.eta == 0 ? nil : $0.request.eta },
      option("Prior steps", \.unCLIP.priorSteps) { $0.request.priorSteps },
      option("Prior CFG scale", \.unCLIP.priorGuidance) { $0.request.priorGuidance },
      option("Super-resolution steps", \.unCLIP.superResolutionSteps) { $0.request.superResolutionSteps },
      option("Noise level", \.unCLIP.noiseLevel) { $0.request.noiseLevel },
      option("Frames", \.frames) { $0.request.frames },
      option("FPS", \.fps) { $0.request.framesPerSecond },
      PictureSetting(
        key: "Pictures", write: { $0.request.sharesSeed ? ["\($0.request.count)"] : [] }, read: readCount),
      option(
        "Prompt syntax", \.promptSyntax, PromptSyntax.init,
        write: { $0.request.prompts.isEmpty ? nil : $0.request.promptSyntax.rawValue }),
      option("RNG", \.rng, NoiseKind.init(argument:), write: { $0.request.noise.metadataName }),
      option("Precision", \.precision, Precision.init, write: { $0.record.precision }),
      option("Encoding", \.encoding, BlockEncoding.init(rawValue:), write: { $0.options.encoding?.rawValue }),
      option(
        "Arithmetic", \.arithmetic, ProductArithmetic.init(rawValue:),
        write: { $0.options.arithmetic?.rawValue }),
      option("Tile", \.tile) { $0.request.tiling?.tile },
      // `UpscaleOptions` takes these up, which only `generate` has.
      note("Postprocess upscale by") { $0.record.enlargement.map { String($0.scale) } },
      note("Postprocess upscaler") { $0.record.enlargement?.upscaler.name },
      note("Postprocess upscaler hash") { $0.record.enlargement?.hash },
      note("Device") { $0.record.device },
      note("Version") { _ in "langevin \(LangevinCommand.configuration.version)" },
    ]
  }

  private static func text(_ list: NumberList) -> String {
    list.values.map(Output.number).joined(separator: " ")
  }
  private static func numbers(_ text: String) -> NumberList? {
    NumberList(argument: text.replacing(" ", with: ","))
  }

  private static func readSize(_ values: [String], _ reading: inout Reading) throws {
    let sides = values[0].split(separator: "x").compactMap { Int($0) }
    guard sides.count == 2 else { throw unknown("Size", values[0], reading) }
    reading.options.width = reading.given.width ?? sides[0]
    reading.options.height = reading.given.height ?? sides[1]
  }

  private static func readModel(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.model == nil, values[0] != Checkpoint.name(of: try DefaultModel.url) else { return }
    guard values[0].contains("/") else {
      throw ImageError.malformed(
        path: Output.path(reading.picture),
        reason: "it is of the model '\(values[0])'; say where that is with --model")
    }
    reading.options.model = values[0]
  }

  private static func readImages(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.image.isEmpty else { return }
    reading.options.image = try values.indices.map {
      try find(values[$0], "Init image hash", number: $0, option: "--image", reading)
    }
  }

  private static func readMask(_ values: [String], _ reading: inout Reading) throws {
    // One for another image would be of another size.
    guard reading.given.mask == nil, reading.given.image.isEmpty else { return }
    reading.options.mask = try find(values[0], "Mask hash", option: "--mask", reading)
  }

  /// Other tools do not name the picture that theirs was made from, or mean a second pass.
  private static func readStrength(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.strength == nil else { return }
    guard let strength = Double(values[0]) else { throw unknown("Denoising strength", values[0], reading) }
    if reading.options.image.isEmpty, !reading.parameters.isOurs, reading.options.hires != nil {
      return try readHiresStrength(values, &reading)
    }
    guard !reading.options.image.isEmpty || reading.parameters.isOurs else {
      return Output.warning(
        "\(Output.path(reading.picture)): its denoising strength is of a picture that it does not name; say with "
          + "--image and --strength")
    }
    reading.options.strength = strength
  }

  private static func readLoRAs(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.lora.isEmpty else { return }
    let scales = reading.parameters.values("LoRA scale").map { Double($0) }
    reading.options.lora = try values.indices.map { index in
      guard scales.indices.contains(index), let scale = scales[index], scale.isFinite else {
        throw unknown("LoRA", values[index], reading)
      }
      let option = "--lora FILE:\(Output.number(scale))"
      let path = try find(values[index], "LoRA hash", number: index, option: option, reading)
      return LoRAOption(path: path, scale: scale)
    }
  }

  /// Of LoRAs that the prompt names: the folder, beside the picture or the working one, that has them all
  /// unchanged.
  private static func readTags(_ values: [String], _ reading: inout Reading) throws {
    let named = try LoRATag.read(reading.parameters.prompt).tags
    guard reading.options.prompts == [reading.parameters.prompt], !named.isEmpty else { return }
    let pairs = values[0].split(separator: ",").compactMap { pair -> (String, String)? in
      guard let colon = pair.lastIndex(of: ":") else { return nil }
      let trimmed = [pair[..<colon], pair[pair.index(after: colon)...]].map {
        $0.trimmingCharacters(in: .whitespaces)
      }
      return (trimmed[0], trimmed[1])
    }
    let hashes = Dictionary(pairs) { $1 }
    func fits(_ tag: LoRATag, _ folder: URL) throws -> Bool {
      guard let file = try? tag.file(in: folder) else { return false }
      return try hashes[tag.name].map { try LoRAHash(file).matches($0) } ?? true
    }
    if let folder = reading.given.loraDir.map({ URL(fileURLWithPath: $0) }) {
      for tag in named where (try? tag.file(in: folder)) != nil {
        if try !fits(tag, folder) {
          Output.warning("the LoRA '\(tag.name)' in \(Output.path(folder)) is not the one of the picture")
        }
      }
      return
    }
    let folders = [
      reading.picture.deletingLastPathComponent(),
      URL(fileURLWithPath: FileManager.default.currentDirectoryPath),
    ]
    guard let folder = try folders.first(where: { folder in try named.allSatisfy { try fits($0, folder) } })
    else {
      let names = named.map { "'\($0.name)'" }.joined(separator: " and ")
      throw ImageError.malformed(
        path: Output.path(reading.picture),
        reason: "its prompt names the LoRA \(names), not beside it unchanged; say where with --lora-dir")
    }
    reading.options.loraDir = folder.path
  }

  private static func readEmbeddings(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.embedding.isEmpty else { return }
    let tokens = reading.parameters.values("Embedding token")
    reading.options.embedding = try values.indices.map { index in
      guard tokens.indices.contains(index) else { throw unknown("Embedding", values[index], reading) }
      let option = "--embedding FILE:\(tokens[index])"
      let path = try find(values[index], "Embedding hash", number: index, option: option, reading)
      return EmbeddingOption(path: path, token: tokens[index])
    }
  }

  private static func readLatents(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.initLatents == nil else { return }
    reading.options.initLatents = try find(values[0], "Init latents hash", option: "--init-latents", reading)
  }

  /// Of frames of a way between two pictures, all.
  private static func readCount(_ values: [String], _ reading: inout Reading) throws {
    guard let count = Int(values[0]) else { throw unknown("Pictures", values[0], reading) }
    if reading.given.count == 1 { reading.options.count = count }
  }

  /// A picture carries only the names of its input files: they are looked for beside it and in the working
  /// folder.
  static func find(
    _ name: String, _ hashKey: String, number: Int = 0, option: String, _ reading: Reading
  ) throws -> String {
    let hashes = reading.parameters.values(hashKey)
    let folders = [
      reading.picture.deletingLastPathComponent().path, FileManager.default.currentDirectoryPath,
    ]
    let paths = name.contains("/") ? [] : folders.map { "\($0)/\(name)" }
    for path in paths where FileManager.default.fileExists(atPath: path) {
      if try hashes.indices.contains(number) && InputFile(path).sha256 == hashes[number] { return path }
    }
    throw ImageError.malformed(
      path: Output.path(reading.picture),
      reason: "it was made from '\(name)', which is not beside it unchanged; say where that is with \(option)"
    )
  }
}

extension UpscaleOptions {
  /// Takes up the enlarging of which the text of the picture tells that `options` repeat, unless the command
  /// line has one. Throws `ImageError`.
  mutating func repeatPicture(_ options: GenerationOptions) throws {
    guard let path = options.from, upscale == nil, upscaler == nil else { return }
    let reading = try PictureSetting.Reading(path, given: options)
    guard let scale = reading.parameters["Postprocess upscale by"].flatMap({ Int($0) }),
      let name = reading.parameters["Postprocess upscaler"]
    else { return }
    upscale = scale
    upscaler = try PictureSetting.find(
      name + ".safetensors", "Postprocess upscaler hash", option: "--upscaler", reading)
  }
}

extension GenerationOptions {
  /// Whether spacing and sigmas of a picture's text are wanted: the command line has none, and its sampler,
  /// where it names one, may be another.
  fileprivate var takesLevels: Bool { spacing == nil && sigmas == nil && self.sampler == nil }

  /// Takes up what a picture's text has and the command line has not.
  mutating func repeatPicture(_ path: String) throws {
    var reading = try PictureSetting.Reading(path, given: self)
    let parameters = reading.parameters
    if prompts.isEmpty && self.promptFile == nil
      && !(parameters.prompt.isEmpty && parameters["Prompt syntax"] == nil)
    {
      reading.options.prompts = [parameters.prompt]
    }
    if self.negative == nil, !parameters.negativePrompt.isEmpty {
      reading.options.negative = parameters.negativePrompt
    }
    for setting in PictureSetting.all {
      let values = parameters.values(setting.key)
      if !values.isEmpty { try setting.read(values, &reading) }
    }
    let known = Set(PictureSetting.all.map(\.key))
    let unknown = parameters.fields.map(\.name).filter { !known.contains($0) }
    if !unknown.isEmpty {
      Output.warning("\(path): these of its settings mean nothing here: \(unknown.joined(separator: ", "))")
    }
    self = reading.options
  }
}

extension Output {
  fileprivate static func plain(_ value: some LosslessStringConvertible) -> String {
    (value as? Double).map(number) ?? value.description
  }
}
