import Foundation
import Langevin
import LangevinDiffusion
import LangevinTensor

/// What happens while an order is drawn, in a form that comes from another process.
enum DrawingEvent: Codable, Sendable, Equatable {
  /// A setting that has no effect, or was changed.
  case warning(String)
  /// A component of the model is being loaded.
  case loading(String)
  /// A step of a batch is done, of which `image` is the first; steps count from 1.
  case step(Int, of: Int, image: Int)
  /// What the denoiser makes of an image now, as a PNG.
  case preview(Data, image: Int)
  case picture(DrawnPicture)
}

/// A finished picture.
struct DrawnPicture: Codable, Sendable, Equatable {
  /// The bytes of a PNG file, which has `text` in it.
  let png: Data
  let seed: UInt64
  let width, height: Int
  /// Prompt and settings, as `PictureParameters` writes them.
  let text: String
}

/// Draws orders on one device, one after the other; the model of the last one stays loaded.
final class Studio {
  let catalog: Catalog
  let device: Device
  let version: String
  private var loaded: Loaded?

  /// A model with its LoRAs.
  private struct Loaded {
    let key: String
    let pipeline: any Pipeline
    /// Nil where its networks do not fit beside each other.
    let networks: KeptNetworks?
  }

  init(_ catalog: Catalog, on device: Device, version: String) {
    (self.catalog, self.device, self.version) = (catalog, device, version)
  }

  /// Throws `Failure`, and what `report` throws to stop.
  func draw(_ order: Order, report: (DrawingEvent) throws -> Void) throws {
    var isReports = false
    func tell(_ event: DrawingEvent) throws {
      do { try report(event) } catch {
        isReports = true
        throw error
      }
    }
    do {
      let loaded = try load(order)
      let asked = try order.request(for: loaded.pipeline.checkpoint, limits: catalog.limits)
      let request = try loaded.pipeline.resolved(asked).request
      try loaded.pipeline.stream(asked, keeping: loaded.networks) { event in
        switch event {
        case .warning(let line): try tell(.warning(line))
        case .loading(let name): try tell(.loading(name))
        case .truncated(_, let rest):
          try tell(.warning("the prompt is longer than the text encoder reads; cut off: '\(rest)'"))
        case .step(let step, let total, let image): try tell(.step(step, of: total, image: image))
        case .preview(let picture, _, let image): try tell(.preview(try picture.png(), image: image))
        case .finished(let clip, _, let seed):
          try tell(.picture(try drawn(clip.picture, seed: seed, order, request)))
        case .sampling, .sampled, .decoding: break
        }
      }
    } catch {
      if isReports { throw error }
      let isRequestsFault = error is AdapterError
      // What is half loaded, or does not leave enough memory, is not kept.
      if !isRequestsFault { loaded = nil }
      throw Failure("\(error)", isRequestsFault: isRequestsFault)
    }
  }

  private func load(_ order: Order) throws -> Loaded {
    let loras = try catalog.loras(order.prompt)
    let key = ([order.model] + loras.map { "\($0.url.path)\u{0}\($0.scale)" }).joined(separator: "\u{0}")
    if let loaded, loaded.key == key { return loaded }
    // The old one's memory is free before the new one is loaded.
    loaded = nil
    let files = try loras.map { (try LoRAFile(url: $0.url), Float($0.scale)) }
    let checkpoint = try catalog.model(order.model).opened.checkpoint.merging(files)
    let pipeline = try Pipelines.open(checkpoint, on: device, precision: catalog.served.precision)
    let fits = try keepingFits(order, pipeline)
    let fresh = Loaded(key: key, pipeline: pipeline, networks: fits ? KeptNetworks() : nil)
    loaded = fresh
    return fresh
  }

  /// Whether all networks of a pipeline fit on the device at once.
  private func keepingFits(_ order: Order, _ pipeline: any Pipeline) throws -> Bool {
    guard device.backend.memory.limit > 0 else { return true }
    let request = try order.request(for: pipeline.checkpoint, limits: catalog.limits)
    return try MemoryPlan(
      request, with: pipeline.checkpoint, precision: catalog.served.precision, on: device
    ).fitsTogether
  }

  private func drawn(_ picture: Picture, seed: UInt64, _ order: Order, _ request: GenerationRequest) throws
    -> DrawnPicture
  {
    func number(_ value: Double) -> String { Int(exactly: value).map { "\($0)" } ?? "\(value)" }
    let named = order.sampler.flatMap { SamplerRegistry.named($0)?.spacing?.rawValue }
    let values: [(String, String?)] = [
      ("Steps", request.steps.map(String.init)), ("Sampler", request.sampler?.title),
      ("Schedule type", (order.spacing ?? named)?.capitalized), ("CFG scale", request.guidance.map(number)),
      ("Seed", "\(seed)"), ("Size", "\(picture.width)x\(picture.height)"), ("Model", order.model),
      ("Denoising strength", request.strength.map(number)),
      ("Eta", request.eta == 0 ? nil : number(request.eta)), ("Prompt syntax", order.promptSyntax.rawValue),
      ("RNG", ["philox": "Philox", "torch": "CPU", "torch-cuda": "NV"][order.rng.rawValue]),
      (
        "Precision",
        ["float32": "f32", "float16": "f16", "bfloat16": "bf16"][catalog.served.precision.rawValue]
      ),
      ("Device", device.label), ("Version", version),
    ]
    let parameters = PictureParameters(
      prompt: order.prompt, negativePrompt: order.negativePrompt,
      fields: values.compactMap { name, value in value.map { PictureParameters.Field(name, $0) } })
    let text = parameters.description
    return DrawnPicture(
      png: try picture.png(text: text), seed: seed, width: picture.width, height: picture.height, text: text)
  }
}
