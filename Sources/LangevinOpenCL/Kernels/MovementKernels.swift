import LangevinTensor

// The kernels of move.cl, arrange.cl, dequantize.cl and reduce.cl.

struct MoveKernel: Kernel {
  static let name = "move"
  var x, y: TensorView
  /// How many runs of contiguous elements there are, and how long each is.
  var runs, run: Int
  /// A work-item's share of a run, and how many runs it has.
  var piece, chunk: Int
  var walk: Walk

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.ulong("runs", runs)
    try arguments.ulong("run", run)
    try arguments.int("piece", piece)
    try arguments.int("chunk", chunk)
    try arguments.ints("d", from: 1, walk.extents.dropFirst())
    try arguments.ulongs("s", from: 0, walk.first)
    try arguments.ulongs("t", from: 0, walk.second)
  }
}

struct MoveTilesKernel: Kernel {
  static let name = "move_tiles"
  var x, y: TensorView
  /// Of the plane that is turned.
  var rows, columns: Int
  /// Columns of a work-item.
  var span: Int
  /// Of a column in x and of a row in y; the others are contiguous.
  var columnStride, rowStride: Int
  /// The other four axes.
  var extents, xStrides, yStrides: [Int]

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.int("rows", rows)
    try arguments.int("columns", columns)
    try arguments.int("span", span)
    try arguments.ulong("s", columnStride)
    try arguments.ulong("t", rowStride)
    try arguments.ints("d", from: 1, extents.dropFirst())
    try arguments.ulongs("s", from: 0, xStrides)
    try arguments.ulongs("t", from: 0, yStrides)
  }
}

struct EmbeddingKernel: Kernel {
  static let name = "embedding"
  var table, ids, y: TensorView
  var rows, width: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("table", table)
    try arguments.reads("ids", ids)
    try arguments.writes("y", y)
    try arguments.int("rows", rows)
    try arguments.int("width", width)
  }
}

struct ArrangeKernel: Kernel {
  static let name = "arrange"
  var x, y: TensorView
  var arrangement: Arrangement

  func encode(to arguments: inout ArgumentEncoder) throws {
    let a = arrangement
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.int("channels", max(a.channels, 1))
    try arguments.int("rows", a.rows)
    try arguments.int("padded_rows", a.paddedRows)
    try arguments.int("columns", a.columns)
    try arguments.int("width", a.width)
    try arguments.ulong("tap_stride", a.tapStride)
    try arguments.ulong("channel_stride", a.channelStride)
    try arguments.ulong("column_stride", a.columnStride)
    try arguments.int("inner", a.inner)
    try arguments.ulong("outer_stride", a.outerStride)
    try arguments.ulong("inner_stride", a.innerStride)
  }
}

struct DequantizeKernel: Kernel {
  static let name = "dequantize"
  var x, y: TensorView
  var count: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
  }
}

struct DequantizePanelsKernel: Kernel {
  static let name = "dequantize_panels"
  var x, y: TensorView
  var channels, taps, columns: Int
  /// The first column of y.
  var begin: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("y", y)
    try arguments.int("channels", channels)
    try arguments.int("taps", taps)
    try arguments.int("columns", columns)
    try arguments.int("begin", begin)
  }
}

struct ReduceKernel: Kernel {
  static let name = "reduce"
  var x: TensorView
  var partial: OpenCLStorage
  var count: Int
  /// Over the axes that stay, and over those that are reduced; both strides of a walk are x's.
  var kept, reduced: Walk

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("partial", scratch: partial)
    try arguments.ulong("count", count)
    try arguments.ints("d", from: 1, kept.extents.dropFirst())
    try arguments.ulongs("s", from: 0, kept.first)
    try arguments.ints("e", from: 1, reduced.extents.dropFirst())
    try arguments.ulongs("t", from: 0, reduced.first)
  }
}

struct ReducePartialsKernel: Kernel {
  static let name = "reduce_partials"
  var partial: OpenCLStorage
  var y: TensorView
  var chunks: Int
  var scale: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("partial", scratch: partial)
    try arguments.writes("y", y)
    try arguments.int("chunks", chunks)
    try arguments.float("scale", scale)
  }
}

/// One part of a sum after another: partial [parts, count] in float32.
struct CombinePartsKernel: Kernel {
  static let name = "combine_parts"
  var partial: OpenCLStorage
  var y: TensorView
  var count, parts: Int
  var scale: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("partial", scratch: partial)
    try arguments.writes("y", y)
    try arguments.ulong("count", count)
    try arguments.int("parts", parts)
    try arguments.float("scale", scale)
  }
}

/// The last axis, of `columns`, is kept.
struct ReduceColumnsKernel: Kernel {
  static let name = "reduce_columns"
  var x: TensorView
  var partial: OpenCLStorage
  var count, columns: Int
  var kept, reduced: Walk

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("partial", scratch: partial)
    try arguments.ulong("count", count)
    try arguments.int("columns", columns)
    try arguments.ints("d", from: 1, kept.extents.dropFirst())
    try arguments.ulongs("s", from: 0, kept.first)
    try arguments.ints("e", from: 1, reduced.extents.dropFirst())
    try arguments.ulongs("t", from: 0, reduced.first)
  }
}
