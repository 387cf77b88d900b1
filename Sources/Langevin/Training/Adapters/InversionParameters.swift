import LangevinModels
import LangevinNN
import LangevinTensor

/// The parameter of a new token of a text encoder, `learned_embeds` [n, C] (arXiv:2208.01618): copies of a known token's
/// row. `ExtendedTable` puts it, or a tensor that a tape watches in its place, behind the frozen table.
public final class InversionParameters: WeightSource {
  /// The parameter's name.
  public static let name = "learned_embeds"

  private let base: any WeightSource
  private let table: String
  private let row: Int
  private let shape: Shape

  /// - Parameters:
  ///   - base: the text encoder's checkpoint.
  ///   - initializer: a text that is one token: `toy`.
  ///   - tokenizer: the text encoder's.
  ///   - count: vectors of the new token, at least 1.
  ///
  /// Throws `AdapterError.initializer` for a text of another number of tokens, `WeightError.missing` where there is no
  /// token table.
  public init(of base: any WeightSource, initializer: String, _ tokenizer: CLIPTokenizer, count: Int = 1)
    throws
  {
    precondition(count > 0)
    let ids = tokenizer.encode(initializer)
    guard ids.count == 1 else { throw AdapterError.initializer(text: initializer, tokens: ids.count) }
    guard let table = ExtendedTable.tableName(in: base), let spec = base.spec(of: table),
      spec.shape.rank == 2,
      Int(ids[0]) < spec.shape[0]
    else {
      throw WeightError.missing(name: "embeddings.token_embedding.weight", source: base.description)
    }
    (self.base, self.table, row, shape) = (base, table, Int(ids[0]), [count, spec.shape[1]])
  }

  /// The one parameter.
  public var names: [String] { [Self.name] }
  /// For messages.
  public var description: String { "a new token's vectors" }

  /// Float32 [n, C].
  public func spec(of name: String) -> TensorSpec? { name == Self.name ? TensorSpec(shape, .float32) : nil }

  /// The copies. Throws `WeightError.missing`, and what the checkpoint throws.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    guard name == Self.name else { throw WeightError.missing(name: name, source: description) }
    let vector = try base.load(table, on: device).rows(row..<row + 1).cast(to: .float32)
    return try Tensor.concatenated(Array(repeating: vector, count: shape[0]), axis: 0)
  }
}
