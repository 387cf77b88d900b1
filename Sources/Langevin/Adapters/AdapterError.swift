import LangevinTensor

/// Why a LoRA or a textual inversion does not fit a model.
public enum AdapterError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The model has no layer for some of a file's tensors, in the file's order.
  case unmatched(path: String, names: [String], total: Int)
  /// A file has some of a layer's matrices and not all.
  case unpaired(path: String, name: String, missing: String)
  /// A setting of PEFT's that gives a file's tensors another meaning than they have here, or one that is not known.
  case setting(path: String, name: String, value: String)
  /// Matrices of one layer that cannot be multiplied.
  case factors(path: String, factors: [Factor])
  /// What a file has for a layer makes another shape than the layer's weight; `name` is one of the tensors.
  case wrongShape(path: String, layer: String, name: String, got: Shape, needed: Shape)
  /// Vectors of a token that no text encoder of the model is as wide as.
  case wrongWidth(path: String, name: String, got: Int, needed: [Int])
  /// A text encoder of the model gets no vectors for a token.
  case noVectors(path: String, token: String, encoder: String)
  /// No file in a folder has the name that a prompt's tag says.
  case noFile(tag: String, folder: String, nearest: String?)
  /// More than one has it.
  case severalFiles(tag: String, paths: [String])
  /// A token's vectors are not as many for one text encoder as for another.
  case differentCounts(path: String, token: String)
  /// The vocabulary has this token, so that it cannot be given another meaning.
  case knownToken(path: String, token: String)
  /// The model has no text encoder whose tokens could be extended.
  case noTextEncoder(path: String, pipeline: String)
  /// New parameters were asked for at layers that do not exist; `source` is the network's file.
  case noLayer(pattern: String, source: String)
  /// The layer is none that an adapter can be trained at.
  case notLinear(layer: String, shape: Shape, source: String)
  /// The text from which a new token's vectors are copied is not one token.
  case initializer(text: String, tokens: Int)

  /// One of the tensors of a layer.
  public struct Factor: Sendable, Equatable {
    /// In the file.
    public let name: String
    public let shape: Shape
  }

  /// One line that says which file and what to do.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .unmatched(let path, let names, let total):
      "\(path): the model has no layer for \(names.count) of its \(total) tensors, the first is "
        + "'\(names.first ?? "")'; it was made for another model"
    case .unpaired(let path, let name, let missing):
      "\(path): tensor '\(name)' has no partner '\(missing)'"
    case .setting(let path, let name, let value):
      "\(path): PEFT's setting '\(name)' is \(value), and adapters of that kind are not read"
    case .factors(let path, let factors):
      "\(path): the shapes of a layer's tensors do not fit each other: "
        + factors.map { "'\($0.name)' is \($0.shape)" }.joined(separator: ", ")
    case .wrongShape(let path, let layer, let name, let got, let needed):
      "\(path): '\(name)' changes a weight of \(got), and the model's layer \(layer) has one of \(needed); "
        + "it was made for another model"
    case .wrongWidth(let path, let name, let got, let needed):
      "\(path): '\(name)' is \(got) wide, and the model's text encoder takes vectors of "
        + "\(needed.map(String.init).joined(separator: " or ")); it was made for another model"
    case .noVectors(let path, let token, let encoder):
      "\(path): it has no vectors of the token '\(token)' for the model's \(encoder)"
    case .noFile(let tag, let folder, let nearest):
      "\(folder): it has no \(tag).safetensors, which the prompt's <lora:\(tag)> names"
        + (nearest.map { "; did you mean '\($0)'?" } ?? "")
    case .severalFiles(let tag, let paths):
      "<lora:\(tag)> can be \(paths.joined(separator: " or ")); give one of them with --lora"
    case .differentCounts(let path, let token):
      "\(path): the token '\(token)' has not as many vectors for each text encoder"
    case .knownToken(let path, let token):
      "\(path): the token '\(token)' is in the model's vocabulary already; name another with FILE:TOKEN"
    case .noTextEncoder(let path, let pipeline):
      "\(path): \(pipeline) has no CLIP text encoder that could learn a token"
    case .noLayer(let pattern, let source): "\(source): no layer is named '\(pattern)' or ends in it"
    case .notLinear(let layer, let shape, let source):
      "\(source): layer \(layer) has a weight of \(shape); adapters are trained at linear layers"
    case .initializer(let text, let tokens):
      "the text '\(text)' is \(tokens) tokens; a new token begins as a copy of exactly one"
    }
  }
}
