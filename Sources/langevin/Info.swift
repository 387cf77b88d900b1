import ArgumentParser
import Foundation
import Langevin

/// `langevin info`.
struct Info: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what a checkpoint, a LoRA, a textual inversion or a picture is.",
    usage: "langevin info <file> ... [<options>]",
    discussion: """
      Examples:
        langevin info ink.safetensors
        langevin info org/name
        langevin info picture.png --json

      Only headers and configurations of models are read, but for hashes, which take the whole file.
      """)

  @Argument(help: "Safetensors files, folders of models, org/name of the Hugging Face cache, or pictures.")
  var files: [String]
  @Flag(help: "Also the SHA-256 of files, and the hashes by which A1111's web UI and others know them.")
  var hashes = false
  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    let found = try files.map { try Found($0, hashes: hashes) }
    if json { return try Output.json(["files": found]) }
    for (index, file) in found.enumerated() {
      if index > 0 { Output.result("") }
      for line in file.lines { Output.result(line) }
    }
  }

  /// One file.
  private struct Found: Encodable {
    struct Fact: Encodable { let name, value: String }

    let path, kind: String
    var facts: [Fact]

    init(_ path: String, hashes: Bool) throws {
      self.path = path
      let url = try Checkpoint.locate(path)
      if PictureFormat(url) != nil {
        let file = try Picture.read(url)
        (kind, facts) = Self.picture(file, path)
      } else {
        let information = try FileInformation(url)
        kind = information.kind
        facts = information.facts.map { Fact(name: $0.name, value: $0.value) }
        if hashes, url.pathExtension == "safetensors" {
          let file = try InputFile(url.path)
          facts.append(Fact(name: "SHA-256", value: file.sha256))
          facts.append(Fact(name: "hash of a checkpoint", value: String(file.sha256.prefix(10))))
          facts.append(Fact(name: "hash of a LoRA", value: try LoRAHash(url).short))
        }
      }
    }

    /// What a picture carries; that it carries nothing is no fault.
    private static func picture(_ file: Picture.File, _ path: String) -> (String, [Fact]) {
      var facts = [Fact(name: "size", value: "\(file.picture.width)x\(file.picture.height)")]
      guard let parameters = try? PictureParameters(of: file, path: path) else {
        let names = file.texts.keys.sorted().joined(separator: ", ")
        facts.append(
          Fact(
            name: "settings", value: names.isEmpty ? "none" : "none that are understood, in texts \(names)"))
        return ("a picture", facts)
      }
      if !parameters.prompt.isEmpty { facts.append(Fact(name: "prompt", value: parameters.prompt)) }
      if !parameters.negativePrompt.isEmpty {
        facts.append(Fact(name: "negative prompt", value: parameters.negativePrompt))
      }
      facts += parameters.fields.map { Fact(name: $0.name, value: $0.value) }
      let maker =
        parameters.isOurs
        ? "of langevin" : file.texts[PictureParameters.keyword] == nil ? "of ComfyUI" : "of another tool"
      return ("a picture \(maker)", facts)
    }

    var lines: [String] {
      let width = facts.map(\.name.count).max() ?? 0
      return ["\(path): \(kind)"]
        + facts.map {
          "  \($0.name.padding(toLength: max(width, $0.name.count), withPad: " ", startingAt: 0))  \($0.value)"
        }
    }
  }
}
