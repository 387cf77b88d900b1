import LangevinOpenCL
import Testing

extension Mutant {
  /// Faults in what multiplies bfloat16 numbers in pairs.
  static let pairs: [Mutant] = [
    Mutant(
      "the rows of a pair are exchanged", .arrange, .cpu, .matmul,
      (
        "low[j * column_stride] | (uint)high[j * column_stride] << 16",
        "high[j * column_stride] | (uint)low[j * column_stride] << 16"
      )),
    Mutant(
      "the second row of a pair is half its value", .arrange, .cpu, .matmul,
      ("convert_uint16(vload16(0, high + j)) << 16", "(convert_uint16(vload16(0, high + j)) - 128u) << 16")),
    Mutant(
      "the next panel begins where the last one's second row does", .panels, .cpu, .matmul,
      ("(ulong)panel * taps * channels * NR) / STEP;", "(ulong)(panel / 2) * taps * channels * NR) / STEP;")),
    Mutant(
      "the first of a pair counts twice", .panels, .cpu, .matmul,
      ("as_uint(vload2(step, row))", "((row)[2 * (step)] * 65537u)")),
    Mutant(
      "the first tap serves all", .panels, .cpu, .conv2d,
      ("w + (ulong)(tap * channels + k0) / STEP * NR", "w + (ulong)k0 / STEP * NR")),
  ].map { $0.showing(in: .bfloat16) }
}

extension Mutant {
  /// Faults in products of int8.
  static let bytes: [Mutant] = [
    Mutant(
      "a part of the bytes' offset stays", .int8Product, .cpu, .matmul,
      ("as_float(-128 * (s4.x", "as_float(-127 * (s4.x")),
    Mutant(
      "a weight's sign is lost", .int8Product, .cpu, .matmul,
      ("part[c][k] ^ 0x80808080u", "(part[c][k] & 0x7f7f7f7fu) ^ 0x80808080u")),
    Mutant(
      "steps are cut off, not rounded", .int8Product, .cpu, .matmul,
      ("convert_int16(s + copysign((float16)(0x1.fffffep-2f), s))", "convert_int16(s)")),
    Mutant(
      "each block has the first one's scale", .int8Product, .cpu, .matmul,
      (
        "convert_float16(whole[2 * i]) * (low * by[i][b].x)",
        "convert_float16(whole[2 * i]) * (low * by[i][0].x)"
      )),
    Mutant(
      "the first image's addend serves all", .int8Product, .cpu, .conv2d,
      ("image = row / image_rows;", "image = 0;")),
  ].map { $0.showing(in: .float32) }
}

extension MutationTests {
  private static let multipliesPairs = OpenCLDevices.all(probe: true).contains { $0.bfloat16Pairs }

  @Test(.enabled(if: multipliesPairs, "no processor multiplies bfloat16 in pairs"), arguments: Mutant.pairs)
  func isCaughtInPairs(mutant: Mutant) throws { try isCaught(mutant: mutant) }

  private static let multipliesBytes = OpenCLDevices.all(probe: true).contains { $0.byteProducts }

  @Test(.enabled(if: multipliesBytes, "no processor multiplies bytes"), arguments: Mutant.bytes)
  func isCaughtInBytes(mutant: Mutant) throws { try isCaught(mutant: mutant) }
}
