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
  case picture(DrawnPicture, image: Int)
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

/// Draws orders on one device; the model of the last one stays loaded.
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

  /// Draws orders that agree (`Order.shared`) as one batch, or a single one as it says. `report` is told the number of
  /// the order with each event; images are counted within it.
  ///
  /// Throws `Failure`, and what `report` throws to stop.
  func draw(_ orders: [Order], report: (DrawingEvent, Int) throws -> Void) throws {
    guard let order = orders.first else { return }
    var isReports = false
    func tell(_ number: Int, _ event: DrawingEvent) throws {
      do { try report(event, number) } catch {
        isReports = true
        throw error
      }
    }
    func tellAll(_ event: DrawingEvent) throws {
      for number in orders.indices { try tell(number, event) }
    }
    let places = orders.indices.flatMap { number in (0..<orders[number].count).map { (number, $0) } }
    do {
      let loaded = try load(order)
      let asked = try request(orders, for: loaded.pipeline.checkpoint)
      let request = try loaded.pipeline.resolved(asked).request
      try loaded.pipeline.stream(asked, keeping: loaded.networks) { event in
        switch event {
        case .warning(let line): try tellAll(.warning(line))
        case .loading(let name): try tellAll(.loading(name))
        case .truncated(let prompt, let rest):
          let line = "the prompt is longer than the text encoder reads; cut off: '\(rest)'"
          for number in orders.indices where orders.count == 1 || orders[number].prompt.contains(prompt) {
            try tell(number, .warning(line))
          }
        case .step(let step, let total, let image):
          // A batch of several orders has all of their images.
          try tellAll(.step(step, of: total, image: image))
        case .preview(let picture, _, let image):
          let (number, place) = places[image]
          try tell(number, .preview(try picture.png(), image: place))
        case .finished(let clip, let image, let seed):
          let (number, place) = places[image]
          let drawn = try drawn(clip.picture, seed: seed, orders[number], request)
          try tell(number, .picture(drawn, image: place))
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

  private func request(_ orders: [Order], for checkpoint: Checkpoint) throws -> GenerationRequest {
    var request = try orders[0].request(for: checkpoint, limits: catalog.limits)
    guard orders.count > 1 else { return request }
    var (prompts, seeds): ([String], [UInt64]) = ([], [])
    for order in orders {
      let text = try LoRATag.read(order.prompt).text
      for image in 0..<order.count {
        if !text.isEmpty { prompts.append(text) }
        seeds.append(order.seed &+ UInt64(image))
      }
    }
    (request.prompts, request.seeds, request.batch) = (prompts, seeds, seeds.count)
    request.count = prompts.isEmpty ? seeds.count : 1
    return request
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
