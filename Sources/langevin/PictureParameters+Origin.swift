import ArgumentParser
import Foundation
import Langevin
import LangevinDiffusion
import LangevinTensor

extension PictureParameters {
  /// The settings of a picture of ours, of A1111's web UI or of ComfyUI.
  ///
  /// Throws `ImageError.malformed` where it carries none.
  init(of file: Picture.File, path: String) throws {
    if let text = file.texts[Self.keyword] {
      self.init(parsing: text)
      guard !fields.isEmpty else {
        throw ImageError.malformed(path: path, reason: "its text 'parameters' has no settings")
      }
    } else if let graph = file.texts[Self.graphKeyword] {
      try self.init(comfyUI: graph, path: path)
    } else {
      throw ImageError.malformed(path: path, reason: "it carries no settings: it has no text 'parameters'")
    }
  }

  /// Whether this tool wrote them.
  var isOurs: Bool { self["Version"]?.hasPrefix("langevin") ?? false }

  /// What another tool leaves unsaid, said: A1111 reads weights in prompts and draws noise as torch does on
  /// CUDA, and its schedule `Automatic` is the sampler's own.
  func forLangevin() -> PictureParameters {
    guard !isOurs else { return self }
    var result = self
    if self["Prompt syntax"] == nil {
      result.fields.append(Field("Prompt syntax", PromptSyntax.a1111.rawValue))
    }
    if self["RNG"] == nil { result.fields.append(Field("RNG", NoiseKind.torchCUDA.metadataName)) }
    guard let index = fields.firstIndex(where: { $0.name == "Schedule type" }) else { return result }
    let automatic = ["DPM++ 2M": "karras", "DPM++ SDE": "karras", "DPM++ 2M SDE": "exponential"]
    let value = fields[index].value
    switch value.lowercased() {
    case "automatic":
      if let own = self["Sampler"].flatMap({ automatic[$0] }) {
        result.fields[index].value = own
      } else {
        result.fields.remove(at: index)
      }
    case "uniform": result.fields.remove(at: index)
    case let other: result.fields[index].value = Self.spacing(other.replacing(" ", with: "_")) ?? value
    }
    return result
  }

  /// Of all fields of this name, in order.
  func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }
}
