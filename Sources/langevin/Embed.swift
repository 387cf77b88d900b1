import ArgumentParser
import Foundation
import Langevin
import LangevinJSON
import LangevinModels
import LangevinTensor

/// `langevin embed`.
struct Embed: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compares texts and pictures by CLIP's embeddings.",
    discussion: """
      Examples:
        langevin embed --model org/name --image cat.png --text "a cat" --text "a dog"
        langevin embed --model org/name --image cat.png --classify "a cat,a dog"

      Prints the cosines of pictures with texts. With texts alone, or pictures alone, it compares them among \
      themselves. Embeddings are those of transformers' CLIPModel, of length 1.
      """)

  @Option(
    help:
      "A transformers folder of CLIP: config.json, model.safetensors, tokenizer, preprocessor_config.json.")
  var model: String
  @Option(name: .customLong("text"), parsing: .unconditionalSingleValue, help: "A text; may be given again.")
  var texts: [String] = []
  @Option(
    name: .customLong("image"), parsing: .unconditionalSingleValue,
    help: "A PNG, JPEG or WebP file; may be given again.")
  var images: [String] = []
  @Option(
    help: """
      Labels, apart by commas: prints each picture's probabilities. Labels are taken as they stand; whole phrases \
      such as 'a photo of a cat' often do better.
      """)
  var classify: String?
  @Option(
    parsing: .upToNextOption,
    help: """
      Two texts, such as 'a man with a hat' 'a man': ranks the pictures by how far they lie along the difference of \
      the first's embedding and the second's.
      """)
  var direction: [String] = []
  @Option(
    help:
      "Write the tensors 'text_embeds' and 'image_embeds' [count, size], float32, to this safetensors file.")
  var output: String?
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "Storage of weights and activations: f32, f16 or bf16.")
  var precision = Precision.f32
  @Flag(
    name: .customLong("no-fallback"), help: "Fail where the device has no kernel, instead of using the CPU.")
  var noFallback = false
  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    let labels = try check()
    let choice = try DeviceChoice.parse(device)
    let url = output.map { URL(fileURLWithPath: $0) }
    if let url { try OutputFile.check(url) }
    let pictures = try images.map { try Picture.read(URL(fileURLWithPath: $0)).picture }
    let folder = try CLIPFolder(Checkpoint.locate(model))
    let device = try choice.opened(fallback: !noFallback)
    let embedder = try Embedder(folder, on: device, precision: precision.dtype)

    func embed(_ texts: [String]) throws -> Tensor {
      try embedder.embed(texts: texts) { text, rest in
        Output.warning("the text '\(text)' is longer than the text encoder reads; cut off: '\(rest)'")
      }
    }
    let textEmbeds = texts.isEmpty ? nil : try embed(texts)
    let imageEmbeds = pictures.isEmpty ? nil : try embedder.embed(pictures: pictures)
    var report = EmbedReport(self, device: device, logitScale: embedder.model.logitScale)
    let isTableWanted = !texts.isEmpty || (classify == nil && direction.isEmpty)
    if isTableWanted, let rows = imageEmbeds ?? textEmbeds, let columns = textEmbeds ?? imageEmbeds {
      report.cosines = EmbedReport.Table(
        rows: pictures.isEmpty ? texts : images, columns: texts.isEmpty ? images : texts,
        values: try embedder.cosines(rows, columns))
    }
    if let imageEmbeds, !labels.isEmpty {
      report.classification = EmbedReport.Table(
        rows: images, columns: labels, values: try embedder.classify(imageEmbeds, among: embed(labels)))
    }
    if let imageEmbeds, !direction.isEmpty {
      let ends = try embed(direction)
      let scores = try embedder.scores(of: imageEmbeds, from: ends.rows(1..<2), to: ends.rows(0..<1))
      report.ranking = zip(images, scores).map { EmbedReport.Rank(image: $0, score: $1) }
        .sorted { $0.score > $1.score }
    }
    if let url { try write(textEmbeds, imageEmbeds, to: url) }
    if json { try Output.json(report) } else { for line in report.lines { Output.result(line) } }
  }

  /// What does not depend on files, devices or the model; returns the labels.
  private func check() throws -> [String] {
    guard !texts.isEmpty || !images.isEmpty else {
      throw ValidationError("give a --text or an --image to embed")
    }
    let labels = (classify ?? "").split(separator: ",", omittingEmptySubsequences: false)
      .map { $0.trimmingCharacters(in: .whitespaces) }
    if classify != nil {
      guard labels.count >= 2, labels.allSatisfy({ !$0.isEmpty }) else {
        throw ValidationError("--classify needs two labels or more, apart by commas, and none empty")
      }
      if images.isEmpty { throw ValidationError("--classify needs an --image") }
    }
    if !direction.isEmpty {
      guard direction.count == 2 else {
        throw ValidationError("--direction needs two texts, got \(direction.count)")
      }
      if images.isEmpty { throw ValidationError("--direction needs an --image") }
    }
    return classify == nil ? [] : labels
  }

  /// The metadata says which row is what.
  private func write(_ texts: Tensor?, _ images: Tensor?, to url: URL) throws {
    let tensors = [("text_embeds", texts), ("image_embeds", images)].compactMap { name, tensor in
      tensor.map { (name: name, tensor: $0) }
    }
    try SafetensorsWriter.write(
      tensors,
      metadata: [
        "texts": StrictJSON.strings(self.texts).text, "images": StrictJSON.strings(self.images).text,
      ],
      to: url)
  }
}

/// What was found, for people and as JSON.
struct EmbedReport: Encodable {
  struct Table: Encodable {
    let rows, columns: [String]
    let values: [[Float]]

    /// Columns are numbered, and named below.
    func lines(format: String) -> [String] {
      let width = rows.reduce(0) { max($0, $1.count) }
      func line(_ name: String, _ cells: [String]) -> String {
        let padded = cells.map { String(repeating: " ", count: max(0, 9 - $0.count)) + $0 }
        return name + String(repeating: " ", count: width - name.count) + padded.joined()
      }
      return [line("", columns.indices.map { "\($0 + 1)" })]
        + zip(rows, values).map { line($0, $1.map { String(format: format, $0) }) }
        + columns.enumerated().map { "\($0 + 1): \($1)" }
    }
  }

  struct Rank: Encodable {
    let image: String
    let score: Float
  }

  let model, device, precision: String
  let output: String?
  let logitScale: Float
  let direction: [String]?
  var cosines: Table?
  /// The probability of each label for each picture.
  var classification: Table?
  /// From the furthest along.
  var ranking: [Rank]?

  init(_ command: Embed, device: Device, logitScale: Float) {
    (model, output, precision) = (command.model, command.output, command.precision.rawValue)
    self.device = device.name
    self.logitScale = logitScale
    direction = command.direction.isEmpty ? nil : command.direction
  }

  var lines: [String] {
    var parts: [[String]] = []
    if let cosines { parts.append(["cosine similarity"] + cosines.lines(format: "%.4f")) }
    if let classification { parts.append(["probability"] + classification.lines(format: "%.4f")) }
    if let ranking, let direction {
      let title = "from '\(direction[1])' to '\(direction[0])'"
      parts.append([title] + ranking.map { String(format: "%7.4f  ", $0.score) + $0.image })
    }
    return Array(parts.joined(separator: [""]))
  }
}
