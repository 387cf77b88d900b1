extension Mutant {
  /// Faults in what reads numbers in blocks.
  static let blocks: [Mutant] = [
    Mutant(
      "upper bits of a minimum are misplaced", .dequantize, .cpu, .dequantize,
      ("s[group] >> 6 << 4;", "s[group] >> 6 << 5;")),
    Mutant(
      "bytes are unsigned", .dequantize, .cpu, .dequantize,
      (
        "convert_float16(vload16(0, (__global const char*)",
        "convert_float16(vload16(0, (__global const uchar*)"
      )),
    Mutant(
      "the last numbers are not written", .dequantize, .cpu, .dequantize, ("i < last;", "i + 16 < last;")),
    Mutant(
      "taps lie within channels", .dequantize, .cpu, .conv2d,
      ("(first + k) % taps * channels + (first + k) / taps", "first + k")),
    Mutant(
      "a column begins with a block", .dequantize, .cpu, .matmul,
      ("block_number(blocks, i + k);", "block_number(blocks, i / 16 * 16 + k);")),
    Mutant(
      "taps lie within channels", .tiled, .gpu, .conv2d,
      ("k % channels * (inner / channels) + k / channels;", "k;")),
    Mutant(
      "a scale's sign is lost", .tiled, .gpu, .matmul,
      ("SIGNED_AT(b + 192 + r / 16) * (float)(q", "b[192 + r / 16] * (float)(q")),
  ]
}
