import ArgumentParser
import Foundation
import Langevin

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

/// What a run adds to its model.
struct Additions {
  let loras: [(file: LoRAFile, scale: Double)]
  let embeddings: [TextualInversion]

  /// Throws as `LoRAFile` and `TextualInversion` do.
  init(_ options: ModelOptions) throws {
    loras = try options.lora.map { (try LoRAFile(url: URL(fileURLWithPath: $0.path)), $0.scale) }
    embeddings = try options.embedding.map {
      try TextualInversion(url: URL(fileURLWithPath: $0.path), token: $0.token)
    }
  }

  /// The model with them. Throws `AdapterError` and `WeightError` where they are of another model.
  func applied(to checkpoint: Checkpoint) throws -> Checkpoint {
    try checkpoint.merging(loras.map { ($0.file, Float($0.scale)) }).adding(embeddings)
  }

  /// For the line that says what runs: `LoRA name 0.8`.
  var titles: [String] {
    loras.map { "LoRA \(Checkpoint.name(of: $0.file.url)) \(Output.number($0.scale))" }
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

  let loras: [LoRA]
  let embeddings: [Embedding]

  /// Reads the files for their digests. Throws `CheckpointError.unreadable`.
  init(_ additions: Additions) throws {
    loras = try additions.loras.map { lora, scale in
      let file = try InputFile(lora.url.path)
      return LoRA(name: file.name, sha256: file.sha256, scale: scale)
    }
    embeddings = try additions.embeddings.map { embedding in
      let file = try InputFile(embedding.url.path)
      return Embedding(name: file.name, sha256: file.sha256, token: embedding.token)
    }
  }
}

extension GenerationOptions {
  /// The model with what is added to it. Throws as `Checkpoint.open` does, and as `Additions`.
  func checkpoint(_ url: URL) throws -> Checkpoint {
    let additions = try Additions(modelOptions)
    return try additions.applied(to: Checkpoint.open(url, prediction: prediction?.rawValue))
  }
}
