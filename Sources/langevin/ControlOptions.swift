import ArgumentParser
import Foundation
import Langevin

/// The pictures that a run follows, and the networks that read them.
struct ControlOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      A ControlNet or T2I-Adapter of this model, as a diffusers folder or org/name of the Hugging Face cache, a \
      ControlNet also as one .safetensors file; may be given again.
      """, valueName: "DIR"))
  var control: [String] = []
  @Option(
    help: ArgumentHelp(
      """
      The picture of each --control, in their order: a PNG, JPEG or WebP file with edges, depth, a pose or whatever \
      the network was trained on. canny:FILE makes the edges of a photo first. It is brought to the picture's size as \
      --image-fit says.
      """, valueName: "[canny:]FILE"))
  var controlImage: [ControlImageOption] = []
  @Option(
    parsing: .unconditionalSingleValue,
    help: "How strongly each --control is followed. (default: 1)")
  var controlScale: [Double] = []
  @Option(
    help: "A picture that says what is drawn, beside the prompt; may be given again. Needs --ip-adapter.")
  var imagePrompt: [String] = []
  @Option(help: "An IP-Adapter of this model: a .safetensors file.")
  var ipAdapter: String?
  @Option(parsing: .unconditional, help: "How strongly --image-prompt is followed. (default: 1)")
  var ipScale: Double?
  @Option(
    help: """
      CLIP's image encoder for --ip-adapter: a transformers folder. (default: the folder image_encoder beside the \
      adapter's file)
      """)
  var imageEncoder: String?

  /// What does not depend on files. Throws `ValidationError`.
  func check() throws {
    if !controlImage.isEmpty && control.isEmpty {
      throw ValidationError("--control-image needs --control: the network that reads the picture")
    }
    guard control.count == controlImage.count else {
      throw ValidationError(
        "each --control needs one --control-image: there are \(control.count) and \(controlImage.count)")
    }
    guard controlScale.isEmpty || controlScale.count == control.count else {
      throw ValidationError(
        "--control-scale is given once for each --control or not at all: there are \(controlScale.count) for "
          + "\(control.count)")
    }
    if !imagePrompt.isEmpty && ipAdapter == nil {
      throw ValidationError("--image-prompt needs --ip-adapter: the network that reads the picture")
    }
    if ipAdapter != nil && imagePrompt.isEmpty { throw ValidationError("--ip-adapter needs --image-prompt") }
    for (name, isGiven) in [("--ip-scale", ipScale != nil), ("--image-encoder", imageEncoder != nil)] {
      if isGiven && ipAdapter == nil { throw ValidationError("\(name) needs --ip-adapter") }
    }
  }

  /// The strength of control k.
  func scale(_ index: Int) -> Double { controlScale.isEmpty ? 1 : controlScale[index] }

  /// Opens networks and reads pictures. Throws `CheckpointError`, `ControlError`, `HubError`, `ImageError`.
  func apply(to request: inout GenerationRequest) throws {
    request.controls = try control.indices.map { index in
      Control(
        try ControlNetwork(url: Checkpoint.locate(control[index])), try controlImage[index].read(),
        scale: scale(index))
    }
    guard let ipAdapter else { return }
    request.imagePrompt = ImagePrompt(
      try ImagePromptAdapter(
        url: URL(fileURLWithPath: ipAdapter), imageEncoder: imageEncoder.map { try Checkpoint.locate($0) }),
      try imagePrompt.map { try Picture.read(URL(fileURLWithPath: $0)).picture }, scale: ipScale ?? 1)
  }
}

/// A control picture's file, and whether its edges are wanted.
struct ControlImageOption: ExpressibleByArgument, CustomStringConvertible {
  let path: String
  let isPhoto: Bool

  private static let prefix = "canny:"

  /// `FILE` or `canny:FILE`; a file's own name may begin like that.
  init(argument: String) {
    isPhoto = argument.hasPrefix(Self.prefix) && !FileManager.default.fileExists(atPath: argument)
    path = isPhoto ? String(argument.dropFirst(Self.prefix.count)) : argument
  }

  init(path: String, isPhoto: Bool) { (self.path, self.isPhoto) = (path, isPhoto) }

  /// As it is written on a command line.
  var description: String { (isPhoto ? Self.prefix : "") + path }

  /// The picture that the network sees. Throws `ImageError`.
  func read() throws -> Picture {
    let picture = try Picture.read(URL(fileURLWithPath: path)).picture
    return isPhoto ? picture.edges() : picture
  }
}

/// What a picture tells of the pictures that it follows.
struct ControlRecord: Encodable {
  struct Control: Encodable {
    let name: String
    let image: InputFile
    /// What was made of the picture first: `canny`.
    let preparation: String?
    let scale: Double
  }

  struct ImagePrompt: Encodable {
    let adapter: InputFile
    /// Where it was named.
    let encoder: String?
    let images: [InputFile]
    let scale: Double
  }

  let controls: [Control]
  let imagePrompt: ImagePrompt?

  /// Reads the files for their digests. Throws `CheckpointError.unreadable`.
  init(_ options: ControlOptions) throws {
    controls = try options.control.indices.map { index in
      let image = options.controlImage[index]
      return Control(
        name: Checkpoint.name(of: try Checkpoint.locate(options.control[index])),
        image: try InputFile(image.path), preparation: image.isPhoto ? "canny" : nil,
        scale: options.scale(index))
    }
    imagePrompt = try options.ipAdapter.map { path in
      ImagePrompt(
        adapter: try InputFile(path),
        encoder: try options.imageEncoder.map { Checkpoint.name(of: try Checkpoint.locate($0)) },
        images: try options.imagePrompt.map { try InputFile($0) }, scale: options.ipScale ?? 1)
    }
  }

  /// For the line that says what runs: `control canny 0.8`.
  var titles: [String] {
    controls.map { "control \($0.name) \(Output.number($0.scale))" }
      + (imagePrompt.map { ["image prompt \(Output.number($0.scale))"] } ?? [])
  }
}

extension PictureSetting {
  /// In the order in which they are written, behind what the model was added to.
  static var controls: [PictureSetting] {
    func note(_ key: String, _ write: @escaping (ControlRecord) -> [String]) -> PictureSetting {
      PictureSetting(key: key, write: { write($0.record.control) }, read: { _, _ in })
    }
    func prompt(
      _ key: String, _ write: @escaping (ControlRecord.ImagePrompt) -> [String],
      read: @escaping ([String], inout Reading) throws -> Void = { _, _ in }
    ) -> PictureSetting {
      PictureSetting(key: key, write: { $0.record.control.imagePrompt.map(write) ?? [] }, read: read)
    }
    return [
      PictureSetting(key: "Control", write: { $0.record.control.controls.map(\.name) }, read: readControls),
      PictureSetting(
        key: "Control image",
        write: {
          $0.record.control.controls.map {
            "\(ControlImageOption(path: $0.image.name, isPhoto: $0.preparation != nil))"
          }
        }, read: readControlImages),
      note("Control image hash") { $0.controls.map(\.image.sha256) },
      PictureSetting(
        key: "Control scale", write: { $0.record.control.controls.map { Output.number($0.scale) } },
        read: readControlScales),
      prompt("IP-Adapter", { [$0.adapter.name] }, read: readImagePromptAdapter),
      prompt("IP-Adapter hash", { [$0.adapter.sha256] }),
      prompt("IP-Adapter scale", { [Output.number($0.scale)] }, read: readImagePromptScale),
      prompt("Image encoder", { [$0.encoder].compactMap { $0 } }, read: readImageEncoder),
      prompt("Image prompt", { $0.images.map(\.name) }, read: readImagePrompts),
      prompt("Image prompt hash", { $0.images.map(\.sha256) }),
    ]
  }

  private static func readControls(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.control.control.isEmpty else { return }
    reading.options.control.control = try values.map {
      try named($0, "it followed a picture by", option: "--control", reading)
    }
  }

  private static func readControlImages(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.control.controlImage.isEmpty else { return }
    reading.options.control.controlImage = try values.indices.map { index in
      let image = ControlImageOption(argument: values[index])
      let path = try find(
        image.path, "Control image hash", number: index, option: "--control-image", reading)
      return ControlImageOption(path: path, isPhoto: image.isPhoto)
    }
  }

  private static func readControlScales(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.control.controlScale.isEmpty else { return }
    reading.options.control.controlScale = try values.map {
      guard let scale = Double($0) else { throw unknown("Control scale", $0, reading) }
      return scale
    }
  }

  private static func readImagePromptAdapter(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.control.ipAdapter == nil else { return }
    reading.options.control.ipAdapter = try find(
      values[0], "IP-Adapter hash", option: "--ip-adapter", reading)
  }

  private static func readImagePromptScale(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.control.ipScale == nil else { return }
    guard let scale = Double(values[0]) else { throw unknown("IP-Adapter scale", values[0], reading) }
    reading.options.control.ipScale = scale
  }

  private static func readImageEncoder(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.control.imageEncoder == nil else { return }
    reading.options.control.imageEncoder = try named(
      values[0], "it was made with the image encoder", option: "--image-encoder", reading)
  }

  private static func readImagePrompts(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.control.imagePrompt.isEmpty else { return }
    reading.options.control.imagePrompt = try values.indices.map {
      try find(values[$0], "Image prompt hash", number: $0, option: "--image-prompt", reading)
    }
  }

  /// A folder of the Hugging Face cache; of another a picture has the name alone.
  private static func named(_ name: String, _ what: String, option: String, _ reading: Reading) throws
    -> String
  {
    guard name.contains("/") else {
      throw ImageError.malformed(
        path: Output.path(reading.picture), reason: "\(what) '\(name)'; say where that is with \(option)")
    }
    return name
  }
}
