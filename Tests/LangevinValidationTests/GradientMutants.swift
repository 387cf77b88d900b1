import LangevinKernels
import LangevinOpenCL

/// Faults in the kernels of gradients, at least one for each kernel.
extension Mutant {
  static let gradients = weightGradients + attentionGradients + normGradients + elementGradients

  private static let weightGradients: [Mutant] = [
    Mutant(
      "the padding on the left is that above", .weightGradient, .cpu, .conv2dWeightGradient,
      ("dx = tap % kernel_width - pad_left", "dx = tap % kernel_width - pad_top")),
    Mutant(
      "the next image begins after the input's height", .weightGradient, .cpu, .conv2dWeightGradient,
      ("if (++line == out_height) {", "if (++line == height) {")),
    Mutant(
      "blocks before the last are dropped", .weightGradient, .cpu, .conv2dWeightGradient,
      ("to[i * (CB / 16) + v] += acc", "to[i * (CB / 16) + v] = acc")),
    Mutant(
      "the stride is not applied to lines", .tiledWeightGradient, .gpu, .conv2dWeightGradient,
      ("line % out_height * step", "line % out_height")),
    Mutant(
      "the last pixel of a part is lost", .tiledWeightGradient, .gpu, .conv2dWeightGradient,
      ("min(begin + part_size, pixels);", "min(begin + part_size, pixels - 1);")),
    Mutant(
      "the first part is not added", .reduce, .cpu, .conv2dWeightGradient,
      ("for (int i = 0; i < parts; ++i)", "for (int i = 1; i < parts; ++i)")),
  ]

  private static let attentionGradients: [Mutant] = [
    Mutant(
      "what the output changes is not subtracted", .attentionGradient, .cpu, .attentionGradient,
      ("slope[v] = p * (slope[v] - dot[r]);", "slope[v] = p * slope[v];")),
    Mutant(
      "a key is hidden from its own query", .attentionGradient, .cpu, .attentionGradient,
      ("block + r + 1 - first)", "block + r - first)")),
    Mutant(
      "the keys' gradient is not scaled", .attentionGradient, .cpu, .attentionGradient,
      ("narrow_row(key_sum + j * (DP / 16), scale,", "narrow_row(key_sum + j * (DP / 16), 1.0f,")),
    Mutant(
      "earlier sums are not rescaled", .tiledAttentionGradient, .gpu, .attentionGradient,
      ("sum[c] *= corrections[row];", "sum[c] *= 1.0f;")),
    Mutant(
      "what the output changes is not subtracted", .tiledAttentionGradient, .gpu, .attentionGradient,
      ("weights[row][i] * (s - rows[2][i]);", "weights[row][i] * s;")),
    Mutant(
      "the first image's mask serves all keys", .tiledAttentionGradient, .gpu, .attentionGradient,
      ("dv += dv0 + k_at;\n  mask += mask0 + image * mask_image;", "dv += dv0 + k_at;\n  mask += mask0;")),
  ]

  private static let normGradients: [Mutant] =
    [KernelFamily.cpu, .gpu].flatMap { family in
      [
        Mutant(
          "the mean is rounded before it is subtracted", .normGradient, family, .groupNormGradient,
          ("-statistics.y * statistics.z;", "0.0f;")),
        Mutant(
          "the activation's slope is its value", .normGradient, family, .groupNormGradient,
          ("return s * (1.0f + z * (1.0f - s));", "return s * z;")),
        Mutant(
          "the last chunk is not added", .normGradient, family, .groupNormGradient,
          ("chunk < chunks; ++chunk", "chunk < chunks - 1; ++chunk")),
        Mutant(
          "gamma is not in the mean of the gradients", .normGradient, family, .groupNormGradient,
          ("weighted += LOAD(gamma, gamma0 + c) * alone;", "weighted += alone;")),
        Mutant(
          "the slope of the normalised x is lost", .normGradient, family, .groupNormGradient,
          ("(level + n * slope)), y", "level), y")),
        Mutant(
          "each row begins the sums anew", .normGradient, family, .layerNormGradient,
          ("vstoreV(vloadV(sums + i) + from * n, sums + i);", "vstoreV(from * n, sums + i);"),
          ("sums[i] += from * n;", "sums[i] = from * n;")),
        Mutant(
          "RMS norm's slope is not divided by the deviation", .normGradient, family, .rmsNormGradient,
          ("- rest * level) * inverse;", "- rest * level);")),
      ]
    }

  private static let elementGradients: [Mutant] = [
    Mutant(
      "the slope of x^2 is x", .elementwiseGradient, .cpu, .unaryGradient, ("return 2.0f * x;", "return x;")),
    Mutant(
      "the slope of |x| at 0 is 1", .elementwiseGradient, .cpu, .unaryGradient,
      ("x, (x == 0.0f) | isnan(x)", "x, isnan(x)")),
    Mutant(
      "the gate's gradient lacks the value", .elementwiseGradient, .cpu, .gegluGradient,
      ("from * a * (share", "from * (share")),
    Mutant(
      "the value does not decay", .elementwiseGradient, .gpu, .adamW, ("p - shrink * p - rate", "p - rate")),
    Mutant(
      "the average takes the value before the step", .elementwiseGradient, .cpu, .adamW,
      (
        "floatV p = load_part_f32(state, i, LEFT);",
        "floatV p = load_part_f32(state, i, LEFT);\n    const floatV before = p;"
      ), ("average_added * p;", "average_added * before;")),
    Mutant(
      "an id counts once", .embeddingGradient, .cpu, .embeddingGradient,
      ("sum[row * LANES + l] += load_part", "sum[row * LANES + l] = load_part")),
    Mutant(
      "the last id is not seen", .embeddingGradient, .gpu, .embeddingGradient,
      ("min(VW, count - i);", "min(VW, count - 1 - i);")),
    Mutant(
      "the counted index does not carry", .reduce, .cpu, .reduce, ("if (++c4 == e4) {", "if (++c4 == e5) {")),
    Mutant(
      "a part's last row is lost", .reduce, .gpu, .reduce,
      ("min(begin + ROWS, count);", "min(begin + ROWS, count) - 1;")),
  ]
}
