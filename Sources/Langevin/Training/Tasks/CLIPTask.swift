import Foundation
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What only the training of CLIP can be told.
public struct CLIPSettings: Codable, Sendable, Equatable {
  /// How many pictures, the last by their names, are not learnt from but measured.
  public var withheld = 0

  /// The defaults.
  public init() {}
}

/// Teaches both of CLIP's encoders that a picture and its caption belong together: the symmetric cross entropy of cosines
/// within a batch, times a temperature that is learnt. arXiv:2103.00020, section 2.3 and figure 3.
///
/// The model is a folder of transformers' `CLIPModel` with its tokenizer. Without preprocessor_config.json pictures
/// are prepared as CLIP's are, in the vision transformer's size.
public struct CLIPTask: ModelTask {
  public static let name = "clip"
  public static let defaults = CLIPSettings()

  /// Pictures in the encoder's size, and their captions' tokens.
  public struct Batch: Sendable {
    let pictures: [Picture]
    let ids: [[Int32]]
  }

  public let networks: [TrainedNetwork]
  private let context: TaskContext
  private let component: Checkpoint.Component
  private let config: CLIPConfig
  private let tokenizer: CLIPTokenizer
  private let preprocessor: StrictJSON
  private let preparation: ImagePreparation
  /// Of the pictures that are learnt from.
  private let batches: PictureBatches
  private let withheld: [Int]

  public init(_ context: TaskContext, _ settings: CLIPSettings) throws {
    self.context = context
    try context.replay?.check(only: ["picture", "caption"], for: Self.name)
    let file = context.model.appendingPathComponent("config.json")
    component = try context.component("", InitialWeights.clip(JSONFile.read(file)))
    let config = try CLIPConfig(component.configuration)
    self.config = config
    // The original brings it back under 100 after each step: section 2.5.
    networks = [
      TrainedNetwork(
        "clip", start: component.weights, limit: { $0 == "logit_scale" ? Float(log(100.0)) : nil },
        build: { _ = try CLIPModel(config, $0) })
    ]
    tokenizer = try CLIPTokenizer(folder: context.model)
    let size = config.vision.imageSize
    let (json, path) = try Self.preprocessor(context.model, size: size)
    (preprocessor, preparation) = (json, try ImagePreparation(json, path: path))
    withheld = try context.withheld(settings.withheld)
    batches = try context.without(withheld).batches(width: size, height: size)
    try check()
    tokenizer.noticeCutCaptions(of: context.data, length: length, context.notice)
  }

  /// The folder's preprocessor_config.json, or CLIP's own for this size.
  private static func preprocessor(_ folder: URL, size: Int) throws -> (json: StrictJSON, path: String) {
    let file = folder.appendingPathComponent("preprocessor_config.json")
    guard !FileManager.default.fileExists(atPath: file.path) else {
      return (try JSONFile.read(file), file.path)
    }
    let standard = """
      {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": true,
      "do_resize": true, "size": {"shortest_edge": \(size)}, "resample": 3,
      "do_center_crop": true, "crop_size": {"height": \(size), "width": \(size)},
      "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true,
      "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
      """
    return (try StrictJSON(parsing: Array(standard.utf8)), file.path)
  }

  /// Throws `SettingsError` where pictures would not come out in the encoder's size.
  private func check() throws {
    let (framing, size) = (batches.framing, config.vision.imageSize)
    let blank = Picture(
      unchecked: [UInt8](repeating: 255, count: framing.width * framing.height * 3), width: framing.width,
      height: framing.height)
    let prepared = try preparation.prepared(blank)
    guard (prepared.width, prepared.height) == (size, size) else {
      throw SettingsError.value(
        key: "width",
        expected: "such that preprocessor_config.json makes \(size)x\(size) of it, got \(framing.width)x"
          + "\(framing.height), which becomes \(prepared.width)x\(prepared.height)")
    }
  }

  /// Tokens of a caption.
  private var length: Int { min(tokenizer.maximumLength, config.text.maxPositions) }

  public func batch(_ samples: Range<UInt64>) throws -> Batch {
    let choices = try samples.map { sample in
      let choice = batches.order.choice(sample)
      return try context.replay?.choice(sample, choice, of: batches.data) ?? choice
    }
    let pictures = forEachInParallel(choices.indices) { place in
      Result { try preparation.prepared(batches.picture(batches.framing.view(choices[place]))) }
    }
    return Batch(
      pictures: try pictures.map { try $0.get() },
      ids: choices.map { choice in
        let caption = choice.caption.map { batches.data.pictures[choice.index].captions[$0].text } ?? ""
        return tokenizer(caption, length: length).ids
      })
  }

  // MARK: Loss

  /// The loss compares the pairs of a batch.
  public var isMeanOfSamples: Bool { false }

  public var comparison: BatchComparison<Batch>? {
    BatchComparison(
      embeddings: { try embeddings(of: $0, CLIPModel(config, $1["clip"])) },
      loss: { try loss(ofEmbeddings: $0, logScale: $1["clip"].tensor("logit_scale", [])) })
  }

  public func loss(_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor {
    let model = try CLIPModel(config, weights["clip"])
    return try loss(ofEmbeddings: embeddings(of: batch, model), logScale: model.logScale)
  }

  /// [N, 2, C]: of each pair the picture's and the caption's, each of length 1.
  private func embeddings(of batch: Batch, _ model: CLIPModel) throws -> Tensor {
    let pictures = try preparation(batch.pictures, on: context.device)
    let images = try model.imageEmbeds(pictures.cast(to: model.logScale.dtype))
    let shape: Shape = [batch.ids.count, 1, config.projectionSize]
    return try Tensor.concatenated(
      [images.reshaped(shape), model.textEmbeds(batch.ids).reshaped(shape)], axis: 1)
  }

  private func loss(ofEmbeddings embeddings: Tensor, logScale: Tensor) throws -> Tensor {
    let shape: Shape = [embeddings.shape[0], config.projectionSize]
    return try contrastiveLoss(
      embeddings.sliced(0..<1, axis: 1).reshaped(shape), embeddings.sliced(1..<2, axis: 1).reshaped(shape),
      logScale: logScale)
  }

  // MARK: The model

  public func model(_ weights: NetworkWeights) throws -> ModelFolderWriter {
    var writer = ModelFolderWriter(pipeline: nil)
    writer.set("clip", .network(config: component.config, weights: try weights("clip")))
    writer.set("tokenizer", .tokenizer(context.model))
    writer.set("preprocessor", .preprocessor(preprocessor))
    return writer
  }

  /// `top1`: the share of withheld pictures whose own first caption is the nearest of a batch's; and `scale`, what cosines
  /// are multiplied by.
  public func figures(_ weights: NetworkWeights) throws -> [(name: String, value: Double)] {
    let model = try CLIPModel(config, Weights(weights("clip"), on: context.device))
    let scale = (name: "scale", value: Double(model.logitScale))
    guard !withheld.isEmpty else { return [scale] }
    let framing = Framing(width: batches.framing.width, height: batches.framing.height)
    var hits = 0
    for start in stride(from: 0, to: withheld.count, by: context.settings.batch) {
      let places = withheld[start..<min(start + context.settings.batch, withheld.count)]
      let captions = places.map { context.data.pictures[$0].captions.first?.text ?? "" }
      let batch = Batch(
        pictures: try places.map { try preparation.prepared(framing.sized(context.data.picture($0))) },
        ids: captions.map { tokenizer($0, length: length).ids })
      let both = try embeddings(of: batch, model).floats()
      let width = config.projectionSize
      let rows = captions.indices.map { Array(both[$0 * 2 * width..<($0 + 1) * 2 * width]) }
      for (place, row) in rows.enumerated() {
        let cosines = rows.map { zip(row[..<width], $0[width...]).reduce(0) { $0 + $1.0 * $1.1 } }
        let nearest = cosines.indices.max { cosines[$0] < cosines[$1] }
        // Another picture of the same caption has the same text.
        if let nearest, captions[nearest] == captions[place] { hits += 1 }
      }
    }
    return [("top1", Double(hits) / Double(withheld.count)), scale]
  }
}
