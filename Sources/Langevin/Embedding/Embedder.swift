import Foundation
import LangevinModels
import LangevinNN
import LangevinTensor

/// CLIP (arXiv:2103.00020) from a transformers folder: texts and pictures to vectors that can be compared.
///
/// Embeddings are those of transformers' `CLIPModel`: after the projections, divided by their lengths.
public struct Embedder: Sendable {
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations; embeddings are float32 always.
  public let precision: DType
  /// CLIP's text and image encoders with their projections.
  public let model: CLIPModel
  let tokenizer: CLIPTokenizer
  let preparation: ImagePreparation

  /// Texts and pictures that run at once: more need more memory and are not faster.
  private static let batch = 16

  /// Reads config.json, tokenizer and preprocessor_config.json, then loads the weights.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `WeightError` and what the device throws.
  public init(_ folder: URL, on device: Device, precision: DType = .float32) throws {
    try self.init(CLIPFolder(folder), on: device, precision: precision)
  }

  /// From a folder that was read before.
  public init(_ folder: CLIPFolder, on device: Device, precision: DType = .float32) throws {
    self.device = device
    self.precision = precision
    (tokenizer, preparation) = (folder.tokenizer, folder.preparation)
    let weights = Weights(folder.weights, on: device, as: precision, component: "clip")
    model = try CLIPModel(folder.config, weights)
  }

  /// Texts -> float32 [N, config.projectionSize], rows of length 1.
  ///
  /// `truncated` is told of a text that is longer than the text encoder reads, and what of it was cut off. Throws
  /// `EmbeddingError` for an empty text and for values that are not finite.
  public func embed(
    texts: [String], truncated: (_ text: String, _ rest: String) -> Void = { _, _ in }
  ) throws -> Tensor {
    let length = min(tokenizer.maximumLength, model.config.text.maxPositions)
    let sequences = try texts.map { text in
      let sequence = tokenizer(text, length: length)
      guard sequence.textCount > 0 else { throw EmbeddingError.emptyText(text) }
      if let rest = sequence.truncated { truncated(text, rest) }
      return sequence
    }
    return try batches(sequences, "the text encoder") { batch in
      // A token sees none after itself: padding past the longest text's end changes nothing.
      let used = batch.reduce(0) { max($0, $1.textCount) } + 2
      return try model.textEmbeds(batch.map { Array($0.ids.prefix(used)) })
    }
  }

  /// Pictures -> float32 [N, config.projectionSize], rows of length 1.
  ///
  /// Throws `ImageError` for a picture that cannot be prepared, `EmbeddingError` for values that are not finite.
  public func embed(pictures: [Picture]) throws -> Tensor {
    try batches(pictures, "the vision transformer") { batch in
      try model.imageEmbeds(preparation(batch, on: device).cast(to: precision))
    }
  }

  private func batches<T>(_ items: [T], _ stage: String, _ embed: ([T]) throws -> Tensor) throws -> Tensor {
    guard !items.isEmpty else { throw EmbeddingError.nothingToEmbed }
    let parts = try stride(from: 0, to: items.count, by: Self.batch).map { start in
      let part = try embed(Array(items[start..<min(start + Self.batch, items.count)]))
      guard try part.nonFiniteCount() == 0 else { throw EmbeddingError.nonFinite(stage: stage) }
      return part
    }
    return try Tensor.concatenated(parts, axis: 0)
  }

  // MARK: What embeddings are good for

  /// Zero-shot classification (arXiv:2103.00020, section 3.1): probabilities [pictures][labels], the softmax over the
  /// labels of cosines times the model's logit scale.
  public func classify(_ pictures: Tensor, among labels: Tensor) throws -> [[Float]] {
    let logits = try CLIPModel.similarity(pictures, labels, scale: model.logitScale)
    return try Self.rows(logits.softmax())
  }

  /// Embedding arithmetic: how far each picture lies along the way from one text to the other, the cosine of its
  /// embedding and the difference of the texts' (each a row [1, C] of length 1).
  ///
  /// Throws `EmbeddingError.noDirection` where both texts have the same embedding.
  public func scores(of pictures: Tensor, from origin: Tensor, to target: Tensor) throws -> [Float] {
    let difference = try target - origin
    let length = try difference.map(.square).reduced(.sum, axes: [-1]).floats()[0].squareRoot()
    guard length > 1e-6 else { throw EmbeddingError.noDirection }
    return try CLIPModel.similarity(pictures, difference, scale: 1 / length).floats()
  }

  /// Cosines [a][b] of rows of length 1.
  public func cosines(_ a: Tensor, _ b: Tensor) throws -> [[Float]] {
    try Self.rows(CLIPModel.similarity(a, b))
  }

  private static func rows(_ matrix: Tensor) throws -> [[Float]] {
    let (values, columns) = (try matrix.floats(), matrix.shape[1])
    return (0..<matrix.shape[0]).map { Array(values[$0 * columns..<($0 + 1) * columns]) }
  }
}

/// A transformers folder of CLIP: everything but the tensors is read and checked.
public struct CLIPFolder: Sendable {
  /// What config.json says of both encoders.
  public let config: CLIPConfig
  /// Of the folder's tokenizer files.
  public let tokenizer: CLIPTokenizer
  /// How pictures are resized, cropped and normalised, from preprocessor_config.json.
  public let preparation: ImagePreparation
  /// Of model.safetensors, or its shards.
  public let weights: any WeightSource

  /// Throws `CheckpointError`, with `.unsupported` for a folder of another model, `TokenizerError`, `ModelError`.
  public init(_ folder: URL) throws {
    guard FileManager.default.fileExists(atPath: folder.path) else {
      throw CheckpointError.missingFile(path: folder.path)
    }
    guard !FileManager.default.fileExists(atPath: folder.appendingPathComponent("model_index.json").path)
    else {
      throw CheckpointError.unsupported(
        path: folder.path, found: "a diffusers pipeline", supported: ["a transformers folder of CLIP"])
    }
    let file = folder.appendingPathComponent("config.json")
    let json = try JSONFile.read(file)
    let type = json["model_type"]?.string
    guard type == "clip" else {
      throw CheckpointError.unsupported(
        path: file.path, found: type.map { "model_type \($0)" } ?? "a file without model_type",
        supported: ["clip"])
    }
    config = try CLIPConfig(ConfigObject(json))
    tokenizer = try CLIPTokenizer(folder: folder)
    preparation = try ImagePreparation(folder: folder)
    weights = try ModelFolder.weights(in: folder)
  }
}

/// Why texts or pictures could not be embedded.
public enum EmbeddingError: Error, Sendable, Equatable, CustomStringConvertible {
  case nothingToEmbed
  /// Nothing is left of it after cleaning.
  case emptyText(String)
  /// An embedding holds NaN or infinity.
  case nonFinite(stage: String)
  /// The two texts have the same embedding.
  case noDirection

  /// One line that says what to change.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .nothingToEmbed: "there is neither text nor picture to embed"
    case .emptyText(let text): "the text '\(text)' is empty"
    case .nonFinite(let stage):
      "\(stage): the values are not finite. Try --precision f32; if that fails too, the checkpoint or the device "
        + "is at fault"
    case .noDirection: "the two texts have the same embedding, so there is no direction from one to the other"
    }
  }
}
