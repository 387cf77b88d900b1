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
///
/// An item holds `tileRows / itemsY * (tileColumns / itemsX)` sums in registers, a row and a column of its tile, and its
/// part of the next tiles: with the shipped values 32 + 12 + 16, and some 20 for addresses.
public struct TiledParameters: NamedParameters {
  /// Work-items along the columns.
  public var itemsX = 8
  /// Work-items along the rows.
  public var itemsY = 16
  /// Rows of a work-group; a multiple of `itemsY * localWidth`.
  public var tileRows = 64
  /// Columns of a work-group; a multiple of `itemsX * localWidth`.
  public var tileColumns = 64
  /// Inner steps that are staged in local memory at a time.
  public var tileInner = 16
  /// Floats that are read from local memory at once: 1 or 4.
  public var localWidth = 4
  /// Elements that are read from global memory at once: 1 or 4.
  public var globalWidth = 4
  /// Pairs of tiles: 2 where the next one is fetched while one is used, else 1.
  public var stages = 2

  /// The shipped values.
  public init() {}

  /// The plainest form: numbers one by one, and a tile at a time.
  static let plain: TiledParameters = {
    var parameters = TiledParameters()
    (parameters.itemsX, parameters.localWidth) = (16, 1)
    (parameters.globalWidth, parameters.stages) = (1, 1)
    return parameters
  }()

  static var fields: [(name: String, path: WritableKeyPath<Self, Int> & Sendable)] {
    [
      ("TX", \.itemsX), ("TY", \.itemsY), ("TM", \.tileRows), ("TN", \.tileColumns), ("TK", \.tileInner),
      ("LW", \.localWidth), ("GW", \.globalWidth), ("STAGES", \.stages),
    ]
  }

  /// Work-items of a work-group.
  var items: Int { itemsX * itemsY }

  /// Sums that an item holds.
  var itemSums: Int { tileRows / itemsY * (tileColumns / itemsX) }

  /// Bytes that the kernel declares.
  var localBytes: Int { 4 * stages * tileInner * (tileRows + tileColumns + 2 * localWidth) }

  /// Whether vectors, items and tiles divide each other as the kernel asks.
  var isConsistent: Bool {
    [1, 4].contains(localWidth) && [1, 4].contains(globalWidth) && stages <= 2
      && tileRows % (itemsY * localWidth) == 0 && tileColumns % (itemsX * localWidth) == 0
      && tileRows % globalWidth == 0 && tileColumns % globalWidth == 0 && tileInner % globalWidth == 0
      && items % (tileInner / globalWidth) == 0
  }
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

/// `tiled_attention.cl`; blocks shrink, or parts of a head are staged, where local memory cannot hold them.
///
/// An item holds `itemQueries` x (keys of a block + channels of a head) / lanes numbers in registers, and some 60 besides:
/// with the shipped values 48 for heads of 40 channels, and 68 at most for those of up to 512, in 32 KiB of local memory at
/// most.
public struct TiledAttentionParameters: NamedParameters {
  /// Query rows of a work-group.
  public var blockQueries = 64
  /// Keys of a block.
  public var blockKeys = 32
  /// Work-items of a work-group.
  public var items = 128
  /// Query rows of an item's tile in registers; 1 for the plain form, with the scores in local memory.
  public var itemQueries = 4
  /// Channels of a head that are staged at a time; `fitted` says it, and the plain form stages all.
  var headChunk = 0

  /// What ships for small heads.
  public init() {}

  /// The plain form.
  static let plain = TiledAttentionParameters(queries: 16, keys: 32, items: 64, itemQueries: 1)
  /// For heads whose sums would not fit into the registers of as few items, and for the largest.
  static let largeHeads = TiledAttentionParameters(queries: 32, keys: 32, items: 128, itemQueries: 4)
  static let largestHeads = TiledAttentionParameters(queries: 16, keys: 32, items: 128, itemQueries: 4)

  init(queries: Int, keys: Int, items: Int, itemQueries: Int) {
    (blockQueries, blockKeys, self.items, self.itemQueries) = (queries, keys, items, itemQueries)
  }

  static var fields: [(name: String, path: WritableKeyPath<Self, Int> & Sendable)] {
    [("BQ", \.blockQueries), ("BK", \.blockKeys), ("LOCAL", \.items), ("MQ", \.itemQueries)]
  }

  /// Items that share rows.
  var lanes: Int { max(1, items * itemQueries / blockQueries) }

  /// Numbers that an item of a form in registers holds: scores, and sums of its output.
  func itemNumbers(size: Int) -> Int {
    let chunks = (size + headChunk - 1) / max(headChunk, 1)
    return itemQueries * (blockKeys / lanes + 4 * chunks * ((headChunk / 4 + lanes - 1) / lanes))
  }

  /// Whether items, rows and keys divide each other as the kernel asks.
  var isConsistent: Bool {
    if itemQueries == 1 { return items % blockQueries == 0 }
    return blockQueries % itemQueries == 0 && items % (blockQueries / itemQueries) == 0
      && blockKeys % 4 == 0 && blockKeys % lanes == 0
  }

  /// Bytes that the kernel declares for heads of this size.
  func localBytes(size: Int) -> Int {
    if itemQueries == 1 {
      return 4
        * (blockQueries * size + blockKeys * (size + 1) + blockQueries * (blockKeys + 1) + 3 * blockQueries)
    }
    return 4
      * ((blockQueries + blockKeys) * (headChunk + 4) + blockQueries * (blockKeys + 4) + blockQueries * lanes)
  }

  /// Of local memory that a form in registers takes: more leaves a card's units with one work-group each.
  private static let mostBytes = 32 << 10

  /// For heads of this size in `localMemory` bytes: the plain form with blocks that fit, where any do, and a form in
  /// registers with as many channels at a time as fit. Where none do it is the plain form.
  func fitted(size: Int, localMemory: Int) -> TiledAttentionParameters {
    var result = self
    guard itemQueries > 1 else {
      while result.localBytes(size: size) > localMemory, result.blockKeys > 4 { result.blockKeys /= 2 }
      while result.localBytes(size: size) > localMemory, result.blockQueries > 1 { result.blockQueries /= 2 }
      return result
    }
    let (vectors, limit) = ((size + 3) / 4, min(localMemory, TiledAttentionParameters.mostBytes))
    for chunks in 1...max(1, (vectors + lanes - 1) / lanes) {
      // Of several chunks each gives every item as many vectors.
      let each = (vectors + chunks - 1) / chunks
      result.headChunk = 4 * (chunks == 1 ? each : (each + lanes - 1) / lanes * lanes)
      if result.localBytes(size: size) <= limit { return result }
    }
    return TiledAttentionParameters.plain.fitted(size: size, localMemory: localMemory)
  }
}
