import LangevinDiffusion
import LangevinJSON

extension PictureParameters {
  /// The keyword of the PNG text in which ComfyUI keeps the graph of nodes that made a picture.
  public static let graphKeyword = "prompt"

  /// The settings of a picture that ComfyUI made, read from its graph: what its one KSampler was given, and
  /// what that is connected to. LoRAs become tags of the prompt (`LoRATag`), and schedulers the spacings that
  /// are nearest to them.
  ///
  /// Throws `ImageError.malformed` for a text that is no graph, for one without exactly one sampler, and for
  /// a part that has no like here.
  public init(comfyUI text: String, path: String) throws {
    let graph = try ComfyUIGraph(text, path: path)
    let sampler = try graph.sampler()
    var fields: [Field] = []
    func add(_ name: String, _ value: String?) { if let value { fields.append(Field(name, value)) } }

    add("Steps", try graph.number("steps", of: sampler))
    let name = graph.text("sampler_name", of: sampler)
    add("Sampler", name)
    let taken = name.flatMap { SamplerRegistry.named($0)?.sampler.spacings } ?? []
    let spacing = graph.text("scheduler", of: sampler).flatMap { Self.spacing($0) }
    add("Schedule type", spacing.flatMap { taken.contains($0) ? $0 : nil })
    add("CFG scale", try graph.number("cfg", of: sampler))
    add("Seed", try graph.number("seed", of: sampler) ?? graph.number("noise_seed", of: sampler))
    if let latent = graph.node("latent_image", of: sampler) {
      if let width = try graph.number("width", of: latent),
        let height = try graph.number("height", of: latent)
      {
        add("Size", "\(width)x\(height)")
      } else if let picture = graph.node("pixels", of: latent) {
        add("Init image", graph.text("image", of: picture))
        add("Denoising strength", try graph.number("denoise", of: sampler))
      } else {
        throw graph.fault("its KSampler begins with a node of the kind \(latent.kind)")
      }
    }
    var tags = ""
    if let model = graph.node("model", of: sampler) {
      let (file, loras) = try graph.model(model)
      add("Model", file.map(Self.stem))
      tags = loras.reversed().map { " <lora:\(Self.stem($0.name)):\($0.scale)>" }.joined()
    }
    // ComfyUI's noise is that of torch's CPU generator, and its words have weights in parentheses.
    add("Prompt syntax", "a1111")
    add("RNG", "CPU")
    self.init(
      prompt: try graph.prompt("positive", of: sampler) + tags,
      negativePrompt: try graph.prompt("negative", of: sampler), fields: fields)
  }

  /// A file's name without its folders and its ending.
  private static func stem(_ path: String) -> String {
    let name = path.split { "/\\".contains($0) }.last.map(String.init) ?? path
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count > 1 ? parts.dropLast().joined(separator: ".") : name
  }

  /// The name here of a scheduler of ComfyUI, where it has one.
  public static func spacing(_ scheduler: String) -> String? {
    let known = [
      "karras": "karras", "exponential": "exponential", "beta": "beta", "normal": "linspace",
      "simple": "trailing", "sgm_uniform": "trailing", "ddim_uniform": "leading",
    ]
    return known[scheduler]
  }
}

/// The nodes of a text `prompt`: `{"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4",
/// 0]}}}`, where a list names the node that an input comes from, and which of its outputs.
private struct ComfyUIGraph {
  struct Node {
    let kind: String
    let inputs: StrictJSON
  }

  let path: String
  private var nodes: [String: Node] = [:]

  init(_ text: String, path: String) throws {
    self.path = path
    guard case .object(let members) = try? StrictJSON(parsing: Array(text.utf8), nonFinite: true) else {
      throw ImageError.malformed(path: path, reason: "its text 'prompt' is no graph of ComfyUI")
    }
    for member in members {
      guard let kind = member.value["class_type"]?.string, let inputs = member.value["inputs"] else {
        continue
      }
      nodes[member.key] = Node(kind: kind, inputs: inputs)
    }
  }

  func fault(_ reason: String) -> ImageError {
    .malformed(path: path, reason: "its ComfyUI graph cannot be repeated: \(reason)")
  }

  /// The only one.
  func sampler() throws -> Node {
    let found = nodes.values.filter { ["KSampler", "KSamplerAdvanced"].contains($0.kind) }
    guard found.count == 1, let sampler = found.first else {
      throw fault("it has \(found.count) nodes of the kind KSampler, not one")
    }
    if let start = try number("start_at_step", of: sampler), start != "0" {
      throw fault("its sampler begins at step \(start)")
    }
    return sampler
  }

  /// The node that an input comes from.
  func node(_ input: String, of node: Node) -> Node? {
    guard case .array(let link) = node.inputs[input], link.count == 2, let id = link[0].string else {
      return nil
    }
    return nodes[id]
  }

  /// A text, or that of a node of one text.
  func text(_ input: String, of node: Node) -> String? {
    if let text = node.inputs[input]?.string { return text }
    guard let source = self.node(input, of: node) else { return nil }
    return ["text", "string", "value", "prompt"].lazy.compactMap { source.inputs[$0]?.string }.first
  }

  /// A number as it is written, or that of a node of one number; nil where there is no such input.
  func number(_ input: String, of node: Node) throws -> String? {
    if case .number(let number) = node.inputs[input] { return number }
    guard let source = self.node(input, of: node) else { return nil }
    for name in ["value", "seed", "int", "float", input] {
      if case .number(let number) = source.inputs[name] { return number }
    }
    throw fault("'\(input)' comes from a node of the kind \(source.kind)")
  }

  /// What was encoded, through nodes that pass it on.
  func prompt(_ input: String, of start: Node) throws -> String {
    var (name, node) = (input, start)
    for _ in nodes {
      guard let next = self.node(name, of: node) else { return "" }
      if let text = text("text", of: next) ?? text("text_g", of: next) { return text }
      if next.kind == "ConditioningZeroOut" { return "" }
      (name, node) = ("conditioning", next)
      guard self.node(name, of: node) != nil else {
        throw fault("its \(input) prompt comes from a node of the kind \(next.kind)")
      }
    }
    throw fault("its \(input) prompt comes from nowhere")
  }

  /// The checkpoint's file, and the LoRAs on the way to it from the sampler.
  func model(_ start: Node) throws -> (file: String?, loras: [(name: String, scale: String)]) {
    var (node, loras) = (start, [(name: String, scale: String)]())
    for _ in nodes {
      if let file = text("ckpt_name", of: node) { return (file, loras) }
      if let name = text("lora_name", of: node), let scale = try number("strength_model", of: node) {
        if let other = try number("strength_clip", of: node), other != scale {
          throw fault("the LoRA '\(name)' has two strengths, \(scale) and \(other)")
        }
        loras.append((name, scale))
      }
      guard let next = self.node("model", of: node) else { break }
      node = next
    }
    return (nil, loras)
  }
}
