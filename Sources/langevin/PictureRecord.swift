import Foundation
import Langevin
import LangevinDiffusion
import LangevinTensor

/// A run, as its pictures tell of it.
struct PictureRecord {
  private(set) var options: GenerationOptions
  /// With every setting made.
  private(set) var request: GenerationRequest
  /// As they were written.
  private(set) var prompts: [String]
  let model: String
  let isOneFile: Bool
  let modelHash: ModelHash
  /// Its label.
  var device: String
  let images: [InputFile]
  let mask: InputFile?
  let latents: InputFile?
  let additions: AdditionRecord
  let control: ControlRecord
  var enlargement: Enlargement?
  /// The SHA-256 of the second pass's upscaler.
  let hiresHash: String?
  /// For the line that says what runs.
  let additionTitles: [String]

  /// Reads the input files again, for their digests. Throws `CheckpointError.unreadable`.
  init(
    _ options: GenerationOptions, _ request: GenerationRequest, _ prompts: Prompts, model: URL,
    device: Device
  ) throws {
    self.options = options
    self.prompts = prompts.written
    self.request = request
    self.model = Checkpoint.name(of: model)
    isOneFile = model.pathExtension == "safetensors"
    modelHash = ModelHash(options.unet.map { URL(fileURLWithPath: $0) } ?? model)
    self.device = device.label
    images = try options.image.map { try InputFile($0) }
    mask = try options.mask.map { try InputFile($0) }
    latents = try options.initLatents.map { try InputFile($0) }
    hiresHash = try request.highResolution?.upscaler.map { try InputFile($0.url.path).sha256 }
    let additions = try Additions(options.modelOptions, prompts.tags)
    self.additions = try AdditionRecord(additions)
    control = try ControlRecord(options.control)
    let unet = options.unet.map { ["UNet \(Checkpoint.name(of: URL(fileURLWithPath: $0)))"] }
    additionTitles = (unet ?? []) + additions.titles + control.titles
  }

  /// The record of a sheet of the same run, with its request.
  func of(_ sheet: Sheet, _ request: GenerationRequest) -> PictureRecord {
    var record = self
    (record.options, record.request, record.prompts) = (sheet.options, request, sheet.prompts.written)
    return record
  }

  /// The same of pictures that another device draws.
  func of(_ device: Device, _ enlargement: Enlargement?) -> PictureRecord {
    var record = self
    (record.device, record.enlargement) = (device.label, enlargement)
    return record
  }

  var precision: String { (options.precision ?? .f32).rawValue }

  /// Of a picture that was to be repeated with weights that are not those it says it is of.
  func warnOfAnotherModel() throws {
    guard let from = options.from else { return }
    let repeated = try PictureParameters(of: Picture.read(URL(fileURLWithPath: from)), path: from)
    // The hash of a folder is no other tool's.
    guard let theirs = repeated["Model hash"]?.lowercased(), repeated.isOurs || isOneFile else { return }
    guard let ours = modelHash.short, !ours.hasPrefix(theirs), !theirs.hasPrefix(ours) else { return }
    Output.warning(
      "the model is not the one that \(from) was made with: its hash is \(ours), that one's \(theirs)")
  }

  /// What the file of one image says of itself: enough to make it again.
  func parameters(_ clip: Clip, image: Int, seed: UInt64) -> PictureParameters {
    let made = PictureSetting.Made(record: self, clip: clip, image: image, seed: seed)
    return PictureParameters(
      prompt: prompts.isEmpty ? "" : prompts[image / request.count],
      negativePrompt: request.negativePrompt,
      fields: PictureSetting.all.flatMap { setting in
        setting.write(made).map { PictureParameters.Field(setting.key, $0) }
      })
  }
}

extension Output {
  /// Without a trailing `.0`.
  static func number(_ value: Double) -> String { Int(exactly: value).map { "\($0)" } ?? "\(value)" }

  /// Those that the model has: `30 steps of ddim`, `guidance 7.5`.
  static func settings(steps: Int?, sampler: String?, guidance: Double?) -> [String] {
    var settings: [String] = []
    if let steps { settings.append("\(steps) steps" + (sampler.map { " of \($0)" } ?? "")) }
    if let guidance { settings.append("guidance \(number(guidance))") }
    return settings
  }
}
