import Foundation
import Langevin
import LangevinCPU
import LangevinTensor

/// What a server draws with, in a form that goes to another process.
public struct ServedModels: Codable, Sendable, Equatable {
  /// Folders, files or names of the Hugging Face cache; the first is the default.
  public var models: [String]
  /// Where the LoRAs are that prompts name; nil for none.
  public var loraFolder: String?
  /// Storage of weights and activations.
  public var precision: DType
  /// Nil leaves weights as the models' files have them.
  public var encoding: BlockEncoding?
  /// Of products with weights in `q8_0`.
  public var arithmetic: ProductArithmetic
  /// What a request may ask for.
  public var limits: ServerLimits

  /// Models with everything else as it is by default.
  public init(
    models: [String], loraFolder: String? = nil, precision: DType = .float32,
    encoding: BlockEncoding? = nil, arithmetic: ProductArithmetic = .float32,
    limits: ServerLimits = ServerLimits()
  ) {
    (self.models, self.loraFolder, self.precision) = (models, loraFolder, precision)
    (self.encoding, self.arithmetic, self.limits) = (encoding, arithmetic, limits)
  }
}

/// The models that there are, opened but not loaded, and the check that an order can be drawn.
struct Catalog: Sendable {
  /// A model that was opened.
  struct Opened: Sendable {
    let checkpoint: Checkpoint
    /// On no device that computes: it checks requests.
    let pipeline: any Pipeline

    /// The settings that it has a use for.
    var options: Set<RequestOption> { type(of: pipeline).options }
  }

  struct Model: Sendable {
    let name: String
    let url: URL?
    /// Or why it cannot be used.
    let opened: Result<Opened, Failure>
  }

  let models: [Model]
  let served: ServedModels
  var limits: ServerLimits { served.limits }

  /// Opens all of them; one that cannot be opened stays in the list with its reason.
  init(_ served: ServedModels) {
    self.served = served
    let device = Device(CPUBackend())
    var models: [Model] = []
    for path in served.models {
      let url = Result { try Checkpoint.locate(path) }.mapError { Failure("\($0)") }
      let first = (try? url.get()).map { Checkpoint.name(of: $0) } ?? path
      let candidates = [first] + (2...max(served.models.count, 2)).map { "\(first)-\($0)" }
      let name = candidates.first { name in !models.contains { $0.name == name } } ?? path
      let opened = url.flatMap { url in
        Result { try Self.open(url, served, device) }.mapError { Failure("\($0)") }
      }
      models.append(Model(name: name, url: try? url.get(), opened: opened))
    }
    self.models = models
  }

  private static func open(_ url: URL, _ served: ServedModels, _ device: Device) throws -> Opened {
    var checkpoint = try Checkpoint.open(url)
    if let encoding = served.encoding { checkpoint = checkpoint.quantized(encoding) }
    checkpoint = try checkpoint.multiplying(in: served.arithmetic)
    let pipeline = try Pipelines.open(checkpoint, on: device, precision: served.precision)
    guard !type(of: pipeline).options.contains(.frames) else {
      throw Failure("\(url.path): \(checkpoint.pipeline) makes videos; the server draws pictures")
    }
    return Opened(checkpoint: checkpoint, pipeline: pipeline)
  }

  /// The model of this name, or the first one.
  ///
  /// Throws `APIError`: 404 where there is none, 503 where it cannot be used.
  func model(_ name: String?) throws -> (name: String, opened: Opened) {
    let found = name.map { name in models.first { $0.name == name } } ?? models.first
    guard let found else {
      let names = models.map(\.name)
      throw APIError.notFound(
        "there is no model '\(name ?? "")'\(name.map { Suggestion.text(for: $0, among: names) } ?? "")"
          + "; there are: \(names.joined(separator: ", "))")
    }
    switch found.opened {
    case .success(let opened): return (found.name, opened)
    case .failure(let failure):
      throw APIError(.serviceUnavailable, "the model '\(found.name)' cannot be used: \(failure.message)")
    }
  }

  /// The LoRAs that a prompt names. Throws `APIError`.
  func loras(_ prompt: String) throws -> [(url: URL, scale: Double)] {
    let tags = try LoRATag.read(prompt).tags
    guard let first = tags.first else { return [] }
    guard let folder = served.loraFolder else {
      throw APIError.badRequest(
        "the prompt names the LoRA '\(first.name)'; the server was started without --lora-dir")
    }
    let url = URL(fileURLWithPath: folder)
    return try tags.map { (try $0.file(in: url), $0.scale) }
  }

  /// The files of the LoRA folder and the folders in it, by name.
  var loraFiles: [URL] {
    guard let folder = served.loraFolder.map({ URL(fileURLWithPath: $0) }),
      let found = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
    else { return [] }
    let files = found.compactMap { $0 as? URL }.filter { $0.pathExtension == "safetensors" }
    return files.sorted { $0.lastPathComponent < $1.lastPathComponent }
  }

  /// The request with every setting made, and warnings. Throws `APIError` for all that cannot be drawn.
  func resolve(_ order: Order) throws -> (request: GenerationRequest, warnings: [String]) {
    do {
      let model = try model(order.model).opened
      _ = try loras(order.prompt)
      try check(order.count, "the number of pictures", limits.pictures)
      let asked = try order.request(for: model.checkpoint, limits: limits)
      if let steps = asked.steps { try check(steps, "steps", limits.steps) }
      // Before schedules and masks of that size are made.
      let (area, overflow) = (asked.width ?? 1).multipliedReportingOverflow(by: asked.height ?? 1)
      if let width = asked.width, let height = asked.height, width > 0, height > 0 {
        try check(overflow ? .max : area, "width times height", limits.pixels)
      }
      let resolved = try model.pipeline.resolved(asked)
      let request = resolved.request
      try check((request.width ?? 1) * (request.height ?? 1), "width times height", limits.pixels)
      return (request, resolved.warnings)
    } catch let error as APIError {
      throw error
    } catch {
      throw APIError.badRequest("\(error)")
    }
  }

  private func check(_ value: Int, _ name: String, _ most: Int) throws {
    guard value > most else { return }
    throw APIError.badRequest("\(name) must be at most \(most) on this server, got \(value)")
  }
}

/// Why something did not work, in one line, whichever process found out.
struct Failure: Error, Codable, Sendable, Equatable {
  let message: String
  /// Whether another request would work.
  var isRequestsFault = false

  init(_ message: String, isRequestsFault: Bool = false) {
    (self.message, self.isRequestsFault) = (message, isRequestsFault)
  }
}

extension Failure: CustomStringConvertible {
  var description: String { message }
}
