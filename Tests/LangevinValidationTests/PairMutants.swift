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

extension MutationTests {
  private static let multipliesPairs = OpenCLDevices.all(probe: true).contains { $0.bfloat16Pairs }

  @Test(.enabled(if: multipliesPairs, "no processor multiplies bfloat16 in pairs"), arguments: Mutant.pairs)
  func isCaughtInPairs(mutant: Mutant) throws { try isCaught(mutant: mutant) }
}
