import LangevinTensor

// The kernels of winograd.cl.

/// Weights to the matrices that tiles are multiplied with.
struct WinogradWeightsKernel: Kernel {
  static let name = "winograd_weights"
  var w, u: TensorView
  var side, channels, panels: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("w", w)
    try arguments.writes("u", u)
    try arguments.int("side", side)
    try arguments.int("channels", channels)
    try arguments.int("panels", panels)
  }
}

/// The windows of a run of tiles to as many matrices.
struct WinogradInputKernel: Kernel {
  static let name = "winograd_input"
  var x, v: TensorView
  /// The tiles that are computed together now.
  var tiles: Range<Int>
  var winograd: WinogradTiles

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", x)
    try arguments.writes("v", v)
    try arguments.int("side", winograd.side)
    try arguments.int("first", tiles.lowerBound)
    try arguments.int("tiles", tiles.count)
    try arguments.int("channels", winograd.channels)
    try arguments.int("height", winograd.input[1])
    try arguments.int("width", winograd.input[2])
    try arguments.int("tile_rows", winograd.tileRows)
    try arguments.int("tile_columns", winograd.tileColumns)
    try arguments.int("pad_top", winograd.padTop)
    try arguments.int("pad_left", winograd.padLeft)
  }
}

/// The products of a run of tiles to their pixels, with what follows a product.
struct WinogradOutputKernel: Kernel {
  static let name = "winograd_output"
  var m, y: TensorView
  var epilogue: EpilogueArguments
  /// The tiles that are computed together now.
  var tiles: Range<Int>
  var winograd: WinogradTiles

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("m", m)
    try arguments.writes("y", y)
    try epilogue.encode(to: &arguments)
    try arguments.int("side", winograd.side)
    try arguments.int("first", tiles.lowerBound)
    try arguments.int("tiles", tiles.count)
    try arguments.int("columns", winograd.columns)
    try arguments.int("out_height", winograd.output[1])
    try arguments.int("out_width", winograd.output[2])
    try arguments.int("tile_rows", winograd.tileRows)
    try arguments.int("tile_columns", winograd.tileColumns)
  }
}
