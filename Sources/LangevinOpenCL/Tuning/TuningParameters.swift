import LangevinKernels
import LangevinTensor

/// What may be chosen about a kernel: it changes the kernel's speed, never its meaning.
///
/// A kernel with choices has a struct of its own; a new one is a new case here, and the compiler names the
/// launch that must read it.
public enum TuningParameters: TunableParameters {
  /// Products and convolutions of CPU devices, `panels.cl`.
  case panels(PanelParameters)
  /// Products and convolutions of GPUs, `tiled.cl`.
  case tiled(TiledParameters)
  /// Attention of CPU devices, `flash_attention.cl`.
  case flashAttention(FlashAttentionParameters)
  /// Attention of GPUs, `tiled_attention.cl`.
  case tiledAttention(TiledAttentionParameters)

  /// The file that the kernel is in.
  public var source: KernelSource {
    switch self {
    case .panels: .panels
    case .tiled: .tiled
    case .flashAttention: .flashAttention
    case .tiledAttention: .tiledAttention
    }
  }

  /// Names, as the kernel's macros are called where there is one, with their values.
  public var values: [(name: String, value: Int)] {
    switch self {
    case .panels(let parameters): parameters.values
    case .tiled(let parameters): parameters.values
    case .flashAttention(let parameters): parameters.values
    case .tiledAttention(let parameters): parameters.values
    }
  }

  /// The parameters of the kernel in `source` with these values; nil where a name is missing or unknown, or
  /// the kernel has nothing to choose.
  public init?(source: KernelSource, values: [String: Int]) {
    let parameters: TuningParameters? =
      switch source {
      case .panels: PanelParameters(named: values).map { .panels($0) }
      case .tiled: TiledParameters(named: values).map { .tiled($0) }
      case .flashAttention: FlashAttentionParameters(named: values).map { .flashAttention($0) }
      case .tiledAttention: TiledAttentionParameters(named: values).map { .tiledAttention($0) }
      default: nil
      }
    guard let parameters else { return nil }
    self = parameters
  }
}

extension TuningParameters {
  /// The name of the kernel's file.
  public var kernel: String { source.rawValue }

  /// As the other, with the kernel's file by its name.
  public init?(kernel: String, values: [String: Int]) {
    guard let source = KernelSource(rawValue: kernel) else { return nil }
    self.init(source: source, values: values)
  }
}

extension TuningParameters {
  /// `MR 8 MV 2 MB 64 KC 512 GROUP 768`.
  public var description: String { values.map { "\($0.name) \($0.value)" }.joined(separator: " ") }
}

/// Whole numbers with names: what a cache file and a table need of a kernel's parameters.
protocol NamedParameters: Sendable, Hashable {
  /// The shipped values.
  init()
  static var fields: [(name: String, path: WritableKeyPath<Self, Int> & Sendable)] { get }
}

extension NamedParameters {
  var values: [(name: String, value: Int)] { Self.fields.map { ($0.name, self[keyPath: $0.path]) } }

  init?(named values: [String: Int]) {
    self.init()
    guard values.count == Self.fields.count else { return nil }
    for field in Self.fields {
      guard let value = values[field.name] else { return nil }
      self[keyPath: field.path] = value
    }
  }
}

/// `panels.cl`. The order in which each element's terms are added does not depend on them.
public struct PanelParameters: NamedParameters {
  /// Rows of a tile in registers.
  public var tileRows = 8
  /// Columns of a tile, in vectors of 16: 1 or 2.
  public var tileVectors = 2
  /// Rows of a work-item; a multiple of `tileRows`.
  public var itemRows = 64
  /// Inner steps between two visits of a tile.
  public var innerBlock = 512
  /// KiB of weights that serve all rows before the next group of panels: more fit a core's caches less well, fewer
  /// read A more often.
  public var groupKiB = 768

  /// What ships for 32 registers of 16 floats (AVX-512): a tile is 16 of them.
  public init() {}

  /// For 16 registers of 8 floats (AVX2): a tile is 12 of them, a row of weights 2.
  static let narrowVectors: PanelParameters = {
    var parameters = PanelParameters()
    (parameters.tileRows, parameters.tileVectors) = (6, 1)
    (parameters.itemRows, parameters.groupKiB) = (96, 1024)
    return parameters
  }()

  static var fields: [(name: String, path: WritableKeyPath<Self, Int> & Sendable)] {
    [
      ("MR", \.tileRows), ("MV", \.tileVectors), ("MB", \.itemRows), ("KC", \.innerBlock),
      ("GROUP", \.groupKiB),
    ]
  }
}

/// `tiled.cl`. The order in which each element's terms are added does not depend on them.
public struct TiledParameters: NamedParameters {
  /// Work-items along the columns.
  public var itemsX = 16
  /// Work-items along the rows.
  public var itemsY = 16
  /// Rows of a work-group; a multiple of `itemsY`.
  public var tileRows = 64
  /// Columns of a work-group; a multiple of `itemsX`.
  public var tileColumns = 64
  /// Inner steps that are staged in local memory at a time.
  public var tileInner = 16

  /// The shipped values.
  public init() {}

  static var fields: [(name: String, path: WritableKeyPath<Self, Int> & Sendable)] {
    [
      ("TX", \.itemsX), ("TY", \.itemsY), ("TM", \.tileRows), ("TN", \.tileColumns), ("TK", \.tileInner),
    ]
  }

  /// Bytes that the kernel declares.
  var localBytes: Int { 4 * tileInner * (tileRows + 1 + tileColumns + 1) }
}

/// `flash_attention.cl`.
public struct FlashAttentionParameters: NamedParameters {
  /// Query rows of a work-item; a multiple of `tileRows`.
  public var blockQueries = 32
  /// Keys of a block; a multiple of 32.
  public var blockKeys = 256
  /// Query rows of a tile in registers.
  public var tileRows = 8
  /// Keys of a tile, in vectors of 16: 1 or 2.
  public var tileVectors = 2

  /// What ships for 32 registers of 16 floats (AVX-512).
  public init() {}

  /// For 16 registers of 8 floats (AVX2). Heads of 512 channels leave room for 36 queries.
  static let narrowVectors: FlashAttentionParameters = {
    var parameters = FlashAttentionParameters()
    (parameters.tileRows, parameters.tileVectors, parameters.blockQueries) = (6, 1, 36)
    return parameters
  }()

  static var fields: [(name: String, path: WritableKeyPath<Self, Int> & Sendable)] {
    [("BQ", \.blockQueries), ("BK", \.blockKeys), ("MR", \.tileRows), ("MV", \.tileVectors)]
  }

  /// A head's channels, filled up to whole vectors.
  func paddedSize(_ size: Int) -> Int { (size + 15) / 16 * 16 }

  /// Bytes of private memory for heads of this size: queries, scores and sums.
  func privateBytes(size: Int) -> Int {
    4 * blockQueries * (size + blockKeys + paddedSize(size))
  }
}

/// `tiled_attention.cl`; blocks shrink where local memory cannot hold them.
public struct TiledAttentionParameters: NamedParameters {
  /// Query rows of a work-group; divides `items`.
  public var blockQueries = 16
  /// Keys of a block.
  public var blockKeys = 32
  /// Work-items of a work-group.
  public var items = 64

  /// The shipped values.
  public init() {}

  static var fields: [(name: String, path: WritableKeyPath<Self, Int> & Sendable)] {
    [("BQ", \.blockQueries), ("BK", \.blockKeys), ("LOCAL", \.items)]
  }

  /// Bytes that the kernel declares for heads of this size.
  func localBytes(size: Int) -> Int {
    4 * (blockQueries * size + blockKeys * (size + 1) + blockQueries * (blockKeys + 1) + 3 * blockQueries)
  }

  /// With blocks that fit into `localMemory` bytes, where any do.
  func fitted(size: Int, localMemory: Int) -> TiledAttentionParameters {
    var result = self
    while result.localBytes(size: size) > localMemory, result.blockKeys > 4 { result.blockKeys /= 2 }
    while result.localBytes(size: size) > localMemory, result.blockQueries > 1 { result.blockQueries /= 2 }
    return result
  }
}
