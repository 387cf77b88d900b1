import ArgumentParser
import Foundation
import Langevin
import LangevinTensor

/// `langevin upscale`.
struct Upscale: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Enlarges pictures with a network of Real-ESRGAN.",
    usage: "langevin upscale <picture> ... --model <file> [<options>]",
    discussion: """
      Examples:
        langevin upscale apple.png --model realesrgan-x4plus.safetensors
        langevin upscale *.jpg --model realesr-general-x4v3.safetensors --scale 2 -o large

      Transparency is enlarged like a grey picture, and a PNG keeps all texts of the picture. The paths of the new \
      pictures go to standard output.
      """)

  @Argument(help: "PNG, JPEG or WebP files.")
  var pictures: [String]
  @Option(
    name: [.customShort("m"), .long],
    help: "Weights of an RRDBNet or SRVGGNetCompact: a .safetensors file, or a folder with one in it.")
  var model: String
  @Option(
    name: [.short, .long],
    help: """
      The picture's file, .png, .jpg or .webp; of several pictures a folder. Folders are made. (default: NAME-4x.png \
      beside each, or where that exists NAME-4x-1.png)
      """)
  var output: String?
  @Option(
    parsing: .unconditional,
    help:
      "How many times as wide and as high. Below the network's own, its result is reduced. (default: that)")
  var scale: Int?
  @Option(
    parsing: .unconditional,
    help:
      "Work in tiles of N by N pixels: small ones need less memory.")
  var tile = Upscaler.defaultTile
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "Storage of weights and activations: f32, f16 or bf16.")
  var precision = Precision.f32
  @Flag(
    name: .customLong("no-fallback"), help: "Fail where the device has no kernel, instead of using the CPU.")
  var noFallback = false
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  func run() throws {
    Interrupt.install()
    guard (32...1 << 20).contains(tile) else {
      throw ValidationError("--tile must be at least 32, got \(tile)")
    }
    let choice = try DeviceChoice.parse(device)
    let file = try UpscalerFile(Checkpoint.locate(model))
    let scale = try file.checked(scale, option: "--scale")
    let target = try Target(output, count: pictures.count, scale: scale)
    let inputs = pictures.map { URL(fileURLWithPath: $0) }
    // What is no picture is found before others were enlarged for nothing.
    for input in inputs {
      _ = try PictureLayers.read(input)
      try OutputFile.check(target.url(for: input))
    }
    let device = try choice.opened(fallback: !noFallback, isQuiet: quiet)
    let upscaler = try Upscaler(file, on: device, precision: precision.dtype)
    var written: [String] = []
    do {
      for (index, input) in inputs.enumerated() {
        var layers = try PictureLayers.read(input)
        var display = ProgressDisplay(isShown: !quiet, count: 1, unit: "tile")
        display.line("\(Output.path(input)), \(upscaler.name), \(device.label)")
        let tiling = upscaler.tiling(tile)
        layers = try TileClock.run(&display) {
          try upscaler(layers, scale: scale, tiling: tiling, progress: $0)
        }
        // The keyword and the settings of A1111's web UI.
        layers.texts["postprocessing"] =
          "Postprocess upscale by: \(scale), Postprocess upscaler: \(upscaler.name)"
        let path = try target.write(layers, of: inputs[index])
        written.append(path)
        Output.result(path)
      }
    } catch var interrupted as Interrupted {
      interrupted.kept = written
      throw interrupted
    }
    Generate.warnOfFallbacks(device)
  }
}

/// Where enlarged pictures go.
private enum Target {
  /// The one that the user named, which is replaced.
  case file(URL)
  /// Names of which nothing has one yet: in a folder, or beside each picture.
  case folder(URL?, scale: Int)

  /// Throws `ValidationError`.
  init(_ output: String?, count: Int, scale: Int) throws {
    guard let output else {
      self = .folder(nil, scale: scale)
      return
    }
    let url = URL(fileURLWithPath: output)
    var isFolder = ObjCBool(false)
    _ = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
    if isFolder.boolValue || output.hasSuffix("/") || (count > 1 && PictureFormat(url) == nil) {
      self = .folder(url, scale: scale)
      return
    }
    guard count == 1 else {
      throw ValidationError("--output must be a folder for \(count) pictures, got '\(output)'")
    }
    guard PictureFormat(url) != nil else {
      throw ValidationError(
        "--output must end in .png, .jpg or .webp, or be a folder that ends in /, got '\(output)'")
    }
    self = .file(url)
  }

  /// The name that is wanted for an enlarged picture.
  func url(for input: URL) -> URL {
    switch self {
    case .file(let url): url
    case .folder(let folder, let scale):
      (folder ?? input.deletingLastPathComponent())
        .appendingPathComponent("\(input.deletingPathExtension().lastPathComponent)-\(scale)x.png")
    }
  }

  /// Returns the file as the user would type it. Throws `ImageError.unwritable`.
  func write(_ layers: PictureLayers, of input: URL) throws -> String {
    let wanted = url(for: input)
    if case .file = self {
      try layers.write(to: wanted)
      return Output.path(wanted)
    }
    return try OutputFile.exclusively(in: wanted.deletingLastPathComponent()) {
      var (url, number, status) = (wanted, 0, stat())
      while lstat(url.path, &status) == 0 {
        number += 1
        url = URL(fileURLWithPath: "\(wanted.deletingPathExtension().path)-\(number).png")
      }
      try layers.write(to: url)
      return Output.path(url)
    }
  }
}

/// What `generate` makes of its pictures with `--upscale`.
struct UpscaleOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Enlarge what was drawn so many times, with --upscaler.", valueName: "N"))
  var upscale: Int?
  @Option(help: "Weights of Real-ESRGAN for --upscale, as `langevin upscale` takes them.")
  var upscaler: String?

  /// The file and the scale where pictures are to be enlarged. Throws `ValidationError` and what opening the
  /// file throws.
  func check() throws -> (file: UpscalerFile, scale: Int)? {
    switch (upscale, upscaler) {
    case (nil, nil): return nil
    case (_?, nil): throw ValidationError("--upscale needs --upscaler")
    case (nil, _?): throw ValidationError("--upscaler needs --upscale")
    case (let scale?, let path?):
      let file = try UpscalerFile(Checkpoint.locate(path))
      return (file, try file.checked(scale, option: "--upscale"))
    }
  }
}

/// An upscaler with the scale that is wanted of it.
struct Enlargement {
  let upscaler: Upscaler
  let scale: Int
  /// The SHA-256 of the weights' file.
  let hash: String

  /// Every frame of a clip.
  func callAsFunction(_ clip: Clip, isShown: Bool) throws -> Clip {
    var large = clip
    var display = ProgressDisplay(isShown: isShown, count: 1, unit: "tile")
    large.frames = try clip.frames.map { frame in
      try TileClock.run(&display) { try upscaler(frame, scale: scale, progress: $0) }
    }
    return large
  }
}

/// Shows the tiles of a picture as steps, and stops at Ctrl-C.
private enum TileClock {
  static func run<Result>(
    _ display: inout ProgressDisplay, _ body: ((Int, Int) throws -> Void) throws -> Result
  ) throws -> Result {
    var last = ContinuousClock.now
    defer { display.close() }
    return try body { done, total in
      try Interrupt.check()
      let now = ContinuousClock.now
      display.step(done, of: total, image: 0, seconds: (now - last) / .seconds(1))
      last = now
    }
  }
}

extension UpscalerFile {
  /// The network's own scale where it is nil. Throws `ValidationError` for one that it cannot give.
  fileprivate func checked(_ scale: Int?, option: String) throws -> Int {
    let scale = scale ?? config.scale
    guard (1...config.scale).contains(scale) else {
      throw ValidationError(
        "\(option) must be 1 to \(config.scale) with the upscaler '\(name)', got \(scale)")
    }
    return scale
  }
}
