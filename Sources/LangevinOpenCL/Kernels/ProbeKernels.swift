// The kernels of probe.cl, team_probe.cl, pair_probe.cl and byte_probe.cl, which no operation launches.

struct FMAPeakKernel: Kernel {
  static let name = "fma_peak"
  var y: OpenCLStorage
  var a, b: Float
  var count: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.writes("y", scratch: y)
    try arguments.float("a", a)
    try arguments.float("b", b)
    try arguments.int("count", count)
  }
}

struct CopyPeakKernel: Kernel {
  static let name = "copy_peak"
  var x, y: OpenCLStorage

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", scratch: x)
    try arguments.writes("y", scratch: y)
  }
}

struct ReadPeakKernel: Kernel {
  static let name = "read_peak"
  var x, y: OpenCLStorage

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("x", scratch: x)
    try arguments.writes("y", scratch: y)
  }
}

struct TeamProbeKernel: Kernel {
  static let name = "team_probe"
  var y: OpenCLStorage

  func encode(to arguments: inout ArgumentEncoder) throws { try arguments.writes("y", scratch: y) }
}

struct PairProbeKernel: Kernel {
  static let name = "pair_probe"
  var a, b, y: OpenCLStorage
  var start: Float

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("a", scratch: a)
    try arguments.reads("b", scratch: b)
    try arguments.writes("y", scratch: y)
    try arguments.float("start", start)
  }
}

struct ByteProbeKernel: Kernel {
  static let name = "byte_probe"
  var a, b, y: OpenCLStorage
  var start: Int

  func encode(to arguments: inout ArgumentEncoder) throws {
    try arguments.reads("a", scratch: a)
    try arguments.reads("b", scratch: b)
    try arguments.writes("y", scratch: y)
    try arguments.int("start", start)
  }
}
