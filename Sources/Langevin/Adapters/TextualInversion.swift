import Foundation
import LangevinNN
import LangevinTensor

/// Vectors that text encoders learned for a new token (arXiv:2208.01618), as diffusers' `learned_embeds.safetensors`
/// {token: [n, C] or [C]}, and A1111's {emb_params: [n, C]} or, for Stable Diffusion XL, {clip_l: [n, C], clip_g: [n, C]}.
///
/// A token of n vectors stands for n tokens in a row: TOKEN, TOKEN_1, …
public struct TextualInversion: Sendable {
  /// The name that diffusers gives such a file in a folder.
  public static let fileName = "learned_embeds.safetensors"

  /// Where it lies.
  public let url: URL
  /// What stands for the vectors in a prompt.
  public let token: String
  let file: SafetensorsFile
  /// Names of tensors, with the component that each is for; nil for the one that is as wide.
  let tensors: [(name: String, encoder: String?)]

  private static let encoders = ["clip_l": "text_encoder", "clip_g": "text_encoder_2"]

  /// Opens a file, or a folder's `learned_embeds.safetensors`. Without a `token` it is the file's, or what the file is
  /// called.
  ///
  /// Throws `CheckpointError`.
  public init(url: URL, token: String? = nil) throws {
    let url = url.adapterFile(Self.fileName)
    let file = try SafetensorsFile(url: url)
    (self.url, self.file) = (url, file)
    func fail(_ reason: String) -> CheckpointError { .malformed(path: url.path, reason: reason) }
    let ownName = url.deletingPathExtension().lastPathComponent
    if file.names == ["emb_params"] {
      tensors = [("emb_params", nil)]
      self.token = token ?? ownName
    } else if !file.names.isEmpty, file.names.allSatisfy({ Self.encoders[$0] != nil }) {
      tensors = file.names.sorted(by: >).map { ($0, Self.encoders[$0]) }
      self.token = token ?? ownName
    } else if file.names.count == 1 {
      tensors = [(file.names[0], nil)]
      self.token = token ?? file.names[0]
    } else {
      throw CheckpointError.unsupported(
        path: url.path,
        found: "a textual inversion of the tensors \(file.names.prefix(3).joined(separator: ", "))",
        supported: ["one tensor named after its token", "emb_params", "clip_l and clip_g"])
    }
    guard !self.token.allSatisfy(\.isWhitespace) else { throw fail("its token is empty") }
    for (name, _) in tensors {
      guard let spec = file.spec(of: name), spec.dtype.isFloatingPoint, (1...2).contains(spec.shape.rank),
        spec.shape.count > 0
      else { throw fail("'\(name)' is no vectors of floating point") }
    }
  }

  /// Vectors and channels of a tensor.
  func size(_ name: String) -> (count: Int, width: Int) {
    let shape = file.shape(of: name) ?? [0, 0]
    return shape.rank == 1 ? (1, shape[0]) : (shape[0], shape[1])
  }

  /// Writes a token's vectors [n, C] as diffusers does. Throws as `SafetensorsWriter.write` does.
  public static func write(_ vectors: Tensor, of token: String, to url: URL) throws {
    try SafetensorsWriter.write([(token, vectors)], metadata: ["format": "pt"], to: url)
  }
}

/// A text encoder's weights whose token table has more rows at its end; their gradients reach where they come from.
public final class ExtendedTable: WeightSource {
  /// Where rows lie: a tensor [n, C] or [C].
  public typealias Rows = (source: any WeightSource, name: String)

  private let base: any WeightSource
  private let rows: [Rows]
  private let table: String?

  /// The base's `…token_embedding.weight` and the rows behind it, in float32.
  public init(_ base: any WeightSource, adding rows: [Rows]) {
    (self.base, self.rows) = (base, rows)
    table = Self.tableName(in: base)
  }

  /// The token table's name in a text encoder's weights.
  public static func tableName(in source: any WeightSource) -> String? {
    source.names.first { $0.hasSuffix("embeddings.token_embedding.weight") }
  }

  /// The base's.
  public var names: [String] { base.names }
  /// The base's.
  public var description: String { base.description }

  /// The base's, the table with its new rows.
  public func spec(of name: String) -> TensorSpec? {
    guard name == table, let shape = base.spec(of: name)?.shape, shape.rank == 2 else {
      return base.spec(of: name)
    }
    let count = rows.reduce(0) { $0 + (($1.source.spec(of: $1.name)?.shape.count ?? 0) / max(shape[1], 1)) }
    return TensorSpec([shape[0] + count, shape[1]], .float32)
  }

  /// The base's; the table is not in blocks.
  public func encoding(of name: String) -> BlockEncoding? { name == table ? nil : base.encoding(of: name) }
  /// The base's.
  public func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    try base.loadBlocks(name, on: device)
  }

  /// The base's, the table with its new rows. Throws what the sources throw.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    guard name == table else { return try base.load(name, on: device) }
    let own = try base.load(name, on: device).cast(to: .float32)
    let added = try rows.map { rows in
      let tensor = try rows.source.load(rows.name, on: device).cast(to: .float32)
      return try tensor.reshaped([tensor.shape.count / own.shape[1], own.shape[1]])
    }
    return try Tensor.concatenated([own] + added, axis: 0)
  }
}
