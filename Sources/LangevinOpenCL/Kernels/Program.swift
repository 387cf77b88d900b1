import LangevinKernels
import LangevinTensor

/// A source with the macros that it is built with. Launches look kernels up by it, so it holds numbers and no
/// text.
enum Program: Sendable, Hashable {
  /// The weight may be stored otherwise than the activations; in pairs both are bfloat16.
  case panels(DType, weight: DType, pairs: DotForm, isConvolution: Bool, PanelParameters)
  /// The weight may be stored otherwise than the activations.
  case winograd(DType, weight: DType)
  /// `blocks`: how the weight is encoded, nil where each of its numbers is by itself.
  case tiled(DType, blocks: BlockEncoding?, isConvolution: Bool, TiledParameters)
  /// `size` is a head's.
  case flashAttention(DType, size: Int, FlashAttentionParameters)
  case tiledAttention(DType, size: Int, TiledAttentionParameters, subgroups: Bool)
  /// `inPairs`: two rows of 16 bits share words.
  case arrange(DType, to: DType, inPairs: Bool, rows: Int)
  /// `items` share a row.
  case norm(DType, vector: Int, items: Int, subgroups: Bool)
  case elementwise(DType, vector: Int, chunk: Int)
  case cast(DType, to: DType, chunk: Int)
  case move(DType)
  case reduce(DType, Reduce.Kind, chunk: Int, VectorTile)
  /// `inParts`: the sum's parts are written, in float32.
  case weightGradient(DType, inParts: Bool, WeightGradientTile)
  case tiledWeightGradient(DType, inParts: Bool, TiledParameters)
  case attentionGradient(DType, size: Int, AttentionGradientTile)
  case tiledAttentionGradient(DType, size: Int, TiledAttentionParameters)
  /// `items` share a row, and take `rows` of them one after another.
  case normGradient(DType, vector: Int, items: Int, rows: Int, subgroups: Bool)
  case elementwiseGradient(DType, vector: Int, chunk: Int)
  case embeddingGradient(DType, VectorTile)
  case dequantize(BlockEncoding, chunk: Int)
  case noise
  case peak(lanes: Int, chains: Int, span: Int, isBlocked: Bool)
  case teamProbe(items: Int)
  case pairProbe(DotForm)
  case byteProbe(DotForm)
  case int8Product(DType, DotForm, Int8Tile)

  /// The file, with what stands before it.
  var source: KernelSource {
    switch self {
    case .panels: .panels
    case .winograd: .winograd
    case .tiled: .tiled
    case .flashAttention: .flashAttention
    case .tiledAttention: .tiledAttention
    case .arrange: .arrange
    case .norm: .norm
    case .elementwise: .elementwise
    case .cast: .cast
    case .move: .move
    case .reduce: .reduce
    case .weightGradient: .weightGradient
    case .tiledWeightGradient: .tiledWeightGradient
    case .attentionGradient: .attentionGradient
    case .tiledAttentionGradient: .tiledAttentionGradient
    case .normGradient: .normGradient
    case .elementwiseGradient: .elementwiseGradient
    case .embeddingGradient: .embeddingGradient
    case .dequantize: .dequantize
    case .noise: .noise
    case .peak: .probe
    case .teamProbe: .teamProbe
    case .pairProbe: .pairProbe
    case .byteProbe: .byteProbe
    case .int8Product: .int8Product
    }
  }

  /// Whether work-groups are reduced over subgroups, for which the compiler needs options of the device.
  var usesSubgroups: Bool {
    switch self {
    case .tiledAttention(_, _, _, let subgroups), .norm(_, _, _, let subgroups),
      .normGradient(_, _, _, _, let subgroups):
      subgroups
    case .teamProbe: true
    default: false
    }
  }

  /// The macros with their values, in a fixed order: the text is part of what caches go by.
  var definitions: [(name: String, value: String)] {
    func list(_ values: KeyValuePairs<String, any CustomStringConvertible>) -> [(String, String)] {
      values.map { ($0.key, $0.value.description) }
    }
    switch self {
    case .panels(let dtype, let weight, let pairs, let isConvolution, let p):
      return list([
        "T": dtype.kernelName, "WEIGHT": weight.kernelName, "PAIRS": pairs.rawValue,
        "CONV": isConvolution ? 1 : 0, "VW": 16, "MR": p.tileRows, "MV": p.tileVectors, "MB": p.itemRows,
        "KC": p.innerBlock,
      ])
    case .winograd(let dtype, let weight):
      return list(["T": dtype.kernelName, "WEIGHT": weight.kernelName, "VW": 16])
    case .tiled(let dtype, let blocks, let isConvolution, let p):
      let plain = list([
        "T": dtype.kernelName, "CONV": isConvolution ? 1 : 0, "VW": 4, "TX": p.itemsX, "TY": p.itemsY,
        "TM": p.tileRows, "TN": p.tileColumns, "TK": p.tileInner, "LW": p.localWidth, "GW": p.globalWidth,
        "STAGES": p.stages,
      ])
      return plain + list(blocks.map { ["BLOCKS": $0.kernelIndex] } ?? [:])
    case .flashAttention(let dtype, let size, let p):
      return list([
        "T": dtype.kernelName, "VW": 16, "D": size, "DP": p.paddedSize(size), "BQ": p.blockQueries,
        "BK": p.blockKeys, "MR": p.tileRows, "MV": p.tileVectors,
      ])
    case .tiledAttention(let dtype, let size, let p, _):
      return list([
        "T": dtype.kernelName, "VW": 4, "D": size, "BQ": p.blockQueries, "BK": p.blockKeys, "LOCAL": p.items,
        "MQ": p.itemQueries, "DC": p.headChunk,
      ])
    case .arrange(let dtype, let target, let inPairs, let rows):
      return list([
        "T": dtype.kernelName, "TARGET": target.kernelName, "PAIRS": inPairs ? 1 : 0, "ROWS": rows,
      ])
    case .norm(let dtype, let vector, let items, _):
      return list(["T": dtype.kernelName, "VW": vector, "LOCAL": items])
    case .elementwise(let dtype, let vector, let chunk):
      return list(["T": dtype.kernelName, "VW": vector, "CHUNK": chunk])
    case .cast(let dtype, let target, let chunk):
      let isWide = dtype.isFloatingPoint && target.isFloatingPoint
      return list([
        "T": dtype.kernelName, "TARGET": target.kernelName, "CHUNK": chunk, "WIDE": isWide ? 1 : 0,
      ])
    case .move(let dtype):
      return list(["E": dtype.byteCount == 4 ? "uint" : "ushort", "NAN_BITS": dtype.notANumber])
    case .reduce(let dtype, let kind, let chunk, let tile):
      return list([
        "T": dtype.kernelName, "KIND": kind.kernelIndex, "CHUNK": chunk, "VW": tile.vector,
        "LANES": tile.lanes, "ROWS": tile.rows,
      ])
    case .weightGradient(let dtype, let inParts, let tile):
      return list([
        "T": dtype.kernelName, "VW": 16, "PARTS": inParts ? 1 : 0, "MR": tile.tileRows,
        "MV": tile.tileVectors, "RB": tile.rows, "CB": tile.columns,
      ])
    case .tiledWeightGradient(let dtype, let inParts, let p):
      return list([
        "T": dtype.kernelName, "VW": 4, "PARTS": inParts ? 1 : 0, "TX": p.itemsX, "TY": p.itemsY,
        "TM": p.tileRows, "TN": p.tileColumns, "TK": p.tileInner,
      ])
    case .attentionGradient(let dtype, let size, let tile):
      return list([
        "T": dtype.kernelName, "VW": 16, "D": size, "DP": (size + 15) / 16 * 16, "BQ": tile.queries,
        "KB": tile.keys, "MR": tile.tileRows, "MV": tile.tileVectors,
      ])
    case .tiledAttentionGradient(let dtype, let size, let p):
      return list([
        "T": dtype.kernelName, "VW": 4, "D": size, "BQ": p.blockQueries, "BK": p.blockKeys, "LOCAL": p.items,
      ])
    case .normGradient(let dtype, let vector, let items, let rows, _):
      return list(["T": dtype.kernelName, "VW": vector, "LOCAL": items, "ROWS": rows])
    case .elementwiseGradient(let dtype, let vector, let chunk):
      return list(["T": dtype.kernelName, "VW": vector, "CHUNK": chunk])
    case .embeddingGradient(let dtype, let tile):
      return list(["T": dtype.kernelName, "VW": tile.vector, "LANES": tile.lanes, "ROWS": tile.rows])
    case .dequantize(let encoding, let chunk):
      return list(["BLOCKS": encoding.kernelIndex, "CHUNK": chunk])
    case .noise: return []
    case .peak(let lanes, let chains, let span, let isBlocked):
      return list([
        "TYPE": lanes == 1 ? "float" : "float\(lanes)", "CHAINS": chains, "SPAN": span,
        "BLOCKED": isBlocked ? 1 : 0,
      ])
    case .teamProbe(let items): return list(["LOCAL": items])
    case .pairProbe(let pairs): return list(["PAIRS": pairs.rawValue])
    case .byteProbe(let bytes): return list(["BYTES": bytes.rawValue])
    case .int8Product(let dtype, let bytes, let tile):
      return list([
        "T": dtype.kernelName, "VW": 16, "BYTES": bytes.rawValue, "MR": tile.tileRows, "MB": tile.itemRows,
      ])
    }
  }

  /// For the compiler, but for what a device adds.
  var options: String {
    // Contraction changes bits, which the noise must not.
    let contraction = source == .noise ? [] : ["-cl-mad-enable"]
    return (contraction + definitions.map { "-D\($0.name)=\($0.value)" }).joined(separator: " ")
  }

  /// `T=f32 VW=16 global=4,128 local=1,1`, for records.
  func variant(global: [Int], local: [Int]?) -> String {
    func list(_ sizes: [Int]) -> String { sizes.map(String.init).joined(separator: ",") }
    var parts = definitions.map { "\($0.name)=\($0.value)" } + ["global=" + list(global)]
    if let local { parts.append("local=" + list(local)) }
    if usesSubgroups { parts.append("SUBGROUPS=1") }
    return parts.joined(separator: " ")
  }
}

extension DType {
  /// The prelude's name of a storage.
  var kernelName: String {
    switch self {
    case .float32: "f32"
    case .float16: "f16"
    case .bfloat16: "bf16"
    case .int32: "i32"
    }
  }

  /// The bits that mark what an index outside its table gives; a float32's for integers.
  fileprivate var notANumber: String {
    switch self {
    case .float32, .int32: "0x7fc00000u"
    case .float16: "0x7e00u"
    case .bfloat16: "0x7fc0u"
    }
  }
}

extension BlockEncoding {
  /// `BLOCKS` of blocks.cl.
  fileprivate var kernelIndex: Int {
    switch self {
    case .q8: 0
    case .q5: 1
    case .q4: 2
    case .q4K: 3
    case .q6K: 4
    }
  }
}

extension Reduce.Kind {
  /// `KIND` of reduce.cl.
  fileprivate var kernelIndex: Int {
    switch self {
    case .sum, .mean: 0
    case .minimum: 1
    case .maximum: 2
    }
  }
}
