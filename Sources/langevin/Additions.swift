import ArgumentParser
import Foundation
import Langevin
import LangevinNN

/// A LoRA's file, and how strongly it is added.
struct LoRAOption: ExpressibleByArgument {
  let path: String
  let scale: Double

  /// `FILE` or `FILE:SCALE`; a file's own name may have a colon in it.
  init?(argument: String) {
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count > 1, !FileManager.default.fileExists(atPath: argument),
      let last = parts.last, let number = Double(last)
    else {
      self.init(path: argument, scale: 1)
      return
    }
    guard number.isFinite else { return nil }
    self.init(path: parts.dropLast().joined(separator: ":"), scale: number)
  }

  init(path: String, scale: Double) { (self.path, self.scale) = (path, scale) }
}

/// A textual inversion's file, and what stands for it in prompts.
struct EmbeddingOption: ExpressibleByArgument {
  let path: String
  let token: String?

  /// `FILE` or `FILE:TOKEN`.
  init(argument: String) {
    let end =
      argument.range(of: ".safetensors:")?.upperBound
      ?? argument.firstIndex(of: ":").map {
        argument.index(after: $0)
      }
    guard let end, !FileManager.default.fileExists(atPath: argument) else {
      self.init(path: argument, token: nil)
      return
    }
    self.init(path: String(argument[..<end].dropLast()), token: String(argument[end...]))
  }

  init(path: String, token: String?) { (self.path, self.token) = (path, token) }
}

/// The prompts of a run.
struct Prompts {
  /// As the user wrote them.
  let written: [String]
  /// Without the tags that name LoRAs: what the model sees.
  let texts: [String]
  /// The same in every prompt, since all pictures are of one model.
  let tags: [LoRATag]

  var count: Int { written.count }

  /// Throws `GenerationError.badRequest` for a tag that is not understood, and `ValidationError` where
  /// prompts name different LoRAs, or where there is no folder to look for them in.
  init(_ prompts: [String], hasFolder: Bool) throws {
    let read = try prompts.map { try LoRATag.read($0) }
    (written, texts, tags) = (prompts, read.map(\.text), read.first?.tags ?? [])
    if let other = read.firstIndex(where: { $0.tags != tags }) {
      throw ValidationError(
        "all prompts of a run must name the same LoRAs with the same scales; "
          + "'\(prompts[other])' and '\(prompts[0])' do not".printable)
    }
    if let tag = tags.first, !hasFolder {
      throw ValidationError(
        "the prompt names the LoRA '\(tag.name)'; say with --lora-dir which folder it is in".printable)
    }
  }

  private init(_ written: [String], _ texts: [String], _ tags: [LoRATag]) {
    (self.written, self.texts, self.tags) = (written, texts, tags)
  }

  /// Some of them.
  func only(_ range: Range<Int>) -> Prompts { Prompts(Array(written[range]), Array(texts[range]), tags) }
}

/// What a run adds to its model.
struct Additions {
  /// Those that options name.
  let loras: [(file: LoRAFile, scale: Double)]
  /// Those that the prompts name.
  let tagged: [(file: LoRAFile, tag: LoRATag)]
  let embeddings: [TextualInversion]

  /// Throws as `LoRAFile`, `TextualInversion` and `LoRATag.file` do.
  init(_ options: ModelOptions, _ tags: [LoRATag]) throws {
    loras = try options.lora.map { (try LoRAFile(url: URL(fileURLWithPath: $0.path)), $0.scale) }
    let folder = options.loraDir.map { URL(fileURLWithPath: $0) }
    tagged = try folder.map { folder in try tags.map { (try LoRAFile(url: $0.file(in: folder)), $0) } } ?? []
    embeddings = try options.embedding.map {
      try TextualInversion(url: URL(fileURLWithPath: $0.path), token: $0.token)
    }
  }

  /// The model with them. Throws `AdapterError` and `WeightError` where they are of another model.
  /// Says once where that makes weights in blocks dense for good.
  func applied(to checkpoint: Checkpoint, thenInBlocks: Bool) throws -> Checkpoint {
    let all = loras.map { ($0.file, Float($0.scale)) } + tagged.map { ($0.file, Float($0.tag.scale)) }
    guard !all.isEmpty else { return try checkpoint.adding(embeddings) }
    let merged = try checkpoint.merging(all)
    let dense = try merged.layersMadeDense()
    if dense.count > 0, !thenInBlocks {
      Output.warning(
        "\(dense.count) layers that the file has in blocks become dense, and take more memory: "
          + "\(dense.kinds.joined(separator: " and ")) cannot be added beside them")
    }
    return try merged.adding(embeddings)
  }

  /// For the line that says what runs: `LoRA name 0.8`.
  var titles: [String] {
    loras.map { "LoRA \(Checkpoint.name(of: $0.file.url)) \(Output.number($0.scale))" }
      + tagged.map { "LoRA \($0.tag.name) \(Output.number($0.tag.scale))" }
      + embeddings.map { "embedding \($0.token)" }
  }
}

/// What a picture tells of what was added to its model.
struct AdditionRecord: Encodable {
  struct LoRA: Encodable {
    let name, sha256: String
    let scale: Double
  }

  struct Embedding: Encodable {
    let name, sha256, token: String
  }

  let loras, tagged: [LoRA]
  let embeddings: [Embedding]
  /// A1111's `Lora hashes` of those that prompts name: `name: 0123456789ab, other: …`; empty where there are
  /// none.
  let taggedHashes: String

  /// Reads the files for their digests. Throws `CheckpointError.unreadable`.
  init(_ additions: Additions) throws {
    func record(_ lora: LoRAFile, _ scale: Double) throws -> LoRA {
      let file = try InputFile(lora.url.path)
      return LoRA(name: file.name, sha256: file.sha256, scale: scale)
    }
    loras = try additions.loras.map { try record($0.file, $0.scale) }
    tagged = try additions.tagged.map { try record($0.file, $0.tag.scale) }
    taggedHashes = try additions.tagged.map { "\($0.tag.name): \(try LoRAHash($0.file.url).short)" }
      .joined(separator: ", ")
    embeddings = try additions.embeddings.map { embedding in
      let file = try InputFile(embedding.url.path)
      return Embedding(name: file.name, sha256: file.sha256, token: embedding.token)
    }
  }
}

extension GenerationOptions {
  /// The model with what is added to it. Throws as `Checkpoint.open` does, and as `Additions`.
  func checkpoint(_ url: URL, _ prompts: Prompts) throws -> Checkpoint {
    let additions = try Additions(modelOptions, prompts.tags)
    let model = try Checkpoint.open(url, prediction: prediction?.rawValue)
    let base = try self.unet.map { try model.replacingDenoiser(with: URL(fileURLWithPath: $0)) } ?? model
    let checkpoint = try additions.applied(to: base, thenInBlocks: self.encoding != nil)
    return try (self.encoding.map { checkpoint.quantized($0) } ?? checkpoint)
      .multiplying(in: self.arithmetic ?? .float32)
  }
}

extension PictureSetting {
  /// Beside the picture or in the working folder.
  static func readUNet(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.unet == nil else { return }
    let folders = [
      reading.picture.deletingLastPathComponent(),
      URL(fileURLWithPath: FileManager.default.currentDirectoryPath),
    ]
    let files = values[0].contains("/") ? [] : folders.map { $0.appending(path: values[0]) }
    let found = files.first { file in
      FileManager.default.fileExists(atPath: file.path)
        && ModelHash(file).short == reading.parameters["Model hash"]
    }
    guard let found else {
      throw ImageError.malformed(
        path: Output.path(reading.picture),
        reason: "it is of the UNet '\(values[0])', not beside it unchanged; say where that is with --unet")
    }
    reading.options.unet = found.path
  }
}
