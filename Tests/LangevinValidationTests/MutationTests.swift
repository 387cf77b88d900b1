import Foundation
import LangevinCPU
import LangevinKernels
import LangevinOpenCL
import LangevinTensor
import LangevinValidation
import Testing

import enum LangevinTensor.Operation

/// A fault of the kind that one makes, planted in a kernel.
struct Mutant: Sendable, CustomTestStringConvertible {
  /// What is wrong.
  let fault: String
  let source: KernelSource
  let family: KernelFamily
  /// Where it must show.
  let operation: Operation.Kind
  /// Each text occurs once in the source; it becomes the other. The fault reads no further outside of its operands than
  /// their guards reach: else it may end the process.
  let edits: [(from: String, to: String)]
  /// Storage in which it must show.
  private(set) var dtypes: [DType] = [.float32, .float16]

  init(
    _ fault: String, _ source: KernelSource, _ family: KernelFamily, _ operation: Operation.Kind,
    _ edits: (String, String)...
  ) {
    self.fault = fault
    self.source = source
    self.family = family
    self.operation = operation
    self.edits = edits.map { (from: $0.0, to: $0.1) }
  }

  var testDescription: String { "\(source.rawValue): \(fault)" }

  func showing(in dtypes: DType...) -> Mutant {
    var mutant = self
    mutant.dtypes = dtypes
    return mutant
  }

  /// The source with the fault in it; nil where a text does not occur exactly once, as after a change to a kernel.
  func patched(_ text: String) -> String? {
    var text = text
    for edit in edits {
      guard text.components(separatedBy: edit.from).count == 2 else { return nil }
      text = text.replacing(edit.from, with: edit.to)
    }
    return text
  }
}

extension Mutant {
  static let products: [Mutant] = [
    Mutant(
      "the last row is not computed", .panels, .cpu, .matmul,
      ("min(MB, rows - first);", "min(MB, rows - first - 1);")),
    Mutant(
      "one row too many is stored", .panels, .cpu, .matmul,
      ("if (t * MR + i < count) {", "if (t * MR + i <= count) {")),
    Mutant(
      "the residual is lost", .panels, .cpu, .matmul, ("if (extras & 4) sum", "if (extras & 8) sum")),
    Mutant(
      "the bias is lost before an activation", .panels, .cpu, .matmul,
      ("if (extras & 1) v_ +=", "if (extras & 8) v_ +=")),
    Mutant(
      "the scale is lost", .panels, .cpu, .matmul, ("sum = scale * acc[", "sum = acc[")),
    Mutant(
      "blocks after the first end early", .panels, .cpu, .matmul,
      ("min(KC, channels - k0);", "min(KC, channels - k0 - (k0 > 0));")),
    Mutant(
      "the partial sums of earlier blocks are dropped", .panels, .cpu, .matmul,
      ("longest || is_new ?", "longest || is_new || k0 > 0 ?")),
    Mutant(
      "of short sums only the last counts", .panels, .cpu, .conv2d,
      ("if (longest && !is_new)", "if (longest && 0)")),
    Mutant(
      "the line below the picture is its last one", .panels, .cpu, .conv2d,
      ("in_y >= 0 && in_y < height", "in_y >= 0 && in_y <= height"),
      ("(image_row[r] + in_y) * width", "(image_row[r] + min(in_y, height - 1)) * width")),
    Mutant(
      "the kernel's axes are exchanged", .panels, .cpu, .conv2d,
      ("dy = tap / kernel_width, dx = tap % kernel_width", "dy = tap % kernel_width, dx = tap / kernel_width")
    ),
    Mutant(
      "the time embedding of the first image serves all", .panels, .cpu, .conv2d,
      ("per_image0 + (ulong)(image) * (columns)", "per_image0")),
    Mutant(
      "the middle tap counts twice", .winograd, .cpu, .conv2d, ("inner = 0.5f * middle;", "inner = middle;")),
    Mutant(
      "windows begin a pixel late", .winograd, .cpu, .conv2d, ("* side - pad_left;", "* side - pad_left + 1;")
    ),
    Mutant(
      "the lines above the picture are its first one", .winograd, .cpu, .conv2d,
      ("inside = top + i >= 0 && top + i < height", "inside = top + i < height"),
      ("(long)(top + i) * width", "(long)max(top + i, 0) * width")),
    Mutant(
      "the last line of an odd picture is lost", .winograd, .cpu, .conv2d,
      ("height = min(side, out_height - top)", "height = min(side, out_height - top - 1)")),
    Mutant(
      "a later run writes where the first did", .winograd, .cpu, .conv2d,
      (
        "first + get_global_id(0);\n  const int left = tile % tile_columns * side, top",
        "(int)get_global_id(0);\n  const int left = tile % tile_columns * side, top"
      )),
    Mutant(
      "the far points of large tiles are nearer", .winograd, .cpu, .conv2d,
      ("#define FAR 1.41421356f", "#define FAR 1.41f")),
    Mutant(
      "the last line of large tiles lacks its last product", .winograd, .cpu, .conv2d,
      ("far_odd + m[5];", "far_odd;")),
    Mutant(
      "no barrier before the tile is used", .tiled, .gpu, .matmul,
      ("    }\n    barrier(CLK_LOCAL_MEM_FENCE);\n  }", "    }\n  }")),
    Mutant(
      "the tile is overwritten while it is used", .tiled, .gpu, .matmul,
      ("stage = 1 - stage;", "stage = 0;")),
    Mutant(
      "the left operand is transposed", .tiled, .gpu, .matmul,
      ("a_at[p] = row * a_row + k * a_inner;", "a_at[p] = row * a_inner + k * a_row;")),
    Mutant(
      "one column too many is stored", .tiled, .gpu, .matmul,
      ("min(LW, columns - column);", "min(LW, columns - column + 1);")),
    Mutant(
      "padding on the left is not padding", .tiled, .gpu, .conv2d,
      ("(x_) >= 0 && (x_) < width", "(x_) < width")),
    Mutant(
      "the next tap begins with its first channel", .tiled, .gpu, .conv2d,
      ("channel -= taps * channels;", "channel = 0;")),
    Mutant(
      "the last part is not added", .tiled, .gpu, .conv2d,
      ("part < parts; ++part", "part < parts - 1; ++part")),
    Mutant(
      "every part begins with the first step", .tiled, .gpu, .conv2d,
      ("begin = part * part_size;", "begin = 0;")),
    Mutant(
      "the runs of an item lie side by side", .tiled, .gpu, .matmul,
      ("(j * TX + tx) * LW", "(tx * (NI / LW) + j) * LW")),
    Mutant(
      "each panel begins one column after the other", .arrange, .cpu, .matmul,
      ("(ulong)panel * width * column_stride", "(ulong)panel * column_stride")),
  ]

  static let attentions: [Mutant] = [
    Mutant(
      "a query does not see its own key", .flashAttention, .cpu, .attention,
      ("min(end, first + r + 1)", "min(end, first + r)")),
    Mutant(
      "earlier sums are not rescaled", .flashAttention, .cpu, .attention,
      ("total[r] * correction +", "total[r] +")),
    Mutant(
      "the first image's mask serves all", .flashAttention, .cpu, .attention,
      ("mask0 + image * mask_image", "mask0")),
    Mutant(
      "no barrier before the values are used", .tiledAttention, .gpu, .attention,
      (
        "      barrier(CLK_LOCAL_MEM_FENCE);\n      ONCE for (int k = 0;",
        "      ONCE for (int k = 0;"
      )),
    Mutant(
      "earlier sums are not rescaled", .tiledAttention, .gpu, .attention,
      ("sum[r][v] *= correction;", "sum[r][v] *= 1.0f;")),
    Mutant(
      "an item's own scores decide its largest", .tiledAttention, .gpu, .attention,
      ("r * GROUPS) * LANES + other]);\n    UNROLL", "r * GROUPS) * LANES + lane]);\n    UNROLL")),
    Mutant(
      "the values' last channels are the first", .tiledAttention, .gpu, .attention,
      ("d = v / CV * DC + place * 4;", "d = place * 4;")),
    Mutant(
      "images are as far apart in the keys as in the queries", .tiledAttention, .gpu, .attention,
      ("k_at = (ulong)image * key_count", "k_at = (ulong)image * queries")),
  ]

  static let norms: [Mutant] =
    [KernelFamily.cpu, .gpu].flatMap { family in
      [
        Mutant(
          "E[x^2] - mean^2", .norm, family, .groupNorm,
          (
            "rest += d;\n      square += d * d;\n    }\n    rest /= (float)count;",
            "rest += d;\n      const floatV v = d + mean;\n      square += v * v;\n    }\n"
              + "    square -= mean * mean * (float)count;\n    rest /= (float)count;"
          )),
        Mutant(
          "the mean is rounded before it is subtracted", .norm, family, .groupNorm,
          ("LOAD(beta, beta0 + c) - statistics.y * scale;", "LOAD(beta, beta0 + c);")),
        Mutant(
          "the mean is in the shift", .norm, family, .groupNorm,
          ("coefficients[c] = statistics.x;", "coefficients[c] = 0.0f;"),
          (
            "LOAD(beta, beta0 + c) - statistics.y * scale;",
            "LOAD(beta, beta0 + c) - (statistics.x + statistics.y) * scale;"
          )),
        Mutant(
          "the means of chunks are rounded", .norm, family, .groupNorm,
          ("vstoreV(rest, rests);", "vstoreV(0.0f * rest, rests);")),
        Mutant(
          "E[x^2] - mean^2", .norm, family, .layerNorm,
          ("t += d;\n    s += d * d;", "t += d;\n    s += (d + mean) * (d + mean);"),
          ("rest += d;\n    tail += d * d;", "rest += d;\n    tail += (d + mean) * (d + mean);"),
          ("(float)width - rest * rest;", "(float)width - (mean + rest) * (mean + rest);")),
        Mutant(
          "the mean is rounded before it is subtracted", .norm, family, .layerNorm,
          ("shift = -rest * inverse;", "shift = 0.0f;")),
      ]
    } + ownNorms

  private static let ownNorms: [Mutant] = [
    Mutant(
      "the activation is lost", .norm, .cpu, .groupNorm,
      ("STOREV(activate(activation, v), y", "STOREV(v, y")),
    Mutant(
      "the variance is not about the mean", .norm, .cpu, .layerNorm,
      (
        "const floatV d = LOADV(x, i) - mean;\n    t += d;",
        "const floatV d = LOADV(x, i);\n    t += d - mean;"
      )),
    Mutant(
      "the tail is not in the mean", .norm, .cpu, .layerNorm, ("FOR_TAIL(i) tail += LOAD(x, i);", "")),
    Mutant(
      "the largest logit is not subtracted", .norm, .cpu, .softmax,
      ("group_max(max(lanes_max(m), tail), scratch)", "0.0f * group_max(max(lanes_max(m), tail), scratch)")),
    Mutant(
      "the tail is not in the maximum", .norm, .cpu, .softmax,
      ("FOR_TAIL(i) tail = max(tail, LOAD(x, i));", "")),
  ]

  static let elements: [Mutant] = [
    Mutant(
      "the last element is not summed", .reduce, .cpu, .reduce,
      ("min(begin + CHUNK, count);", "min(begin + CHUNK, count - 1);")),
    Mutant("a run's tail is not moved", .move, .cpu, .slice, ("for (; j < count; ++j) out[j] = in[j];", "")),
    Mutant("two axes are exchanged", .move, .cpu, .slice, ("c4 * p##4 + c5 * p##5", "c4 * p##5 + c5 * p##4")),
    Mutant(
      "the halves are exchanged", .elementwise, .cpu, .geglu,
      (
        "load_part(x, i, LEFT) * gelu_v(load_part(x, width + i, LEFT))",
        "load_part(x, width + i, LEFT) * gelu_v(load_part(x, i, LEFT))"
      )),
    Mutant(
      "the second of a pair is turned the other way", .elementwise, .cpu, .rotary,
      ("turned_b = a * s + b * c;", "turned_b = b * c - a * s;")),
    Mutant(
      "every image begins where the last ended", .elementwise, .cpu, .rotary,
      ("head / heads % tokens * pairs", "head / heads * pairs")),
    Mutant("b has a's strides", .elementwise, .cpu, .binary, ("c4 * t4 + c5 * t5", "c4 * s4 + c5 * s5")),
    Mutant("the eighth term is lost", .elementwise, .cpu, .linearCombination, ("ADD(6); ADD(7);", "ADD(6);")),
    Mutant(
      "a coefficient is rounded", .elementwise, .cpu, .unary, ("exp_v(-1.702f * x)", "exp_v(-1.7f * x)")),
    Mutant(
      "a part of pi / 2 is left out", .elementwise, .cpu, .unary, ("r = r - n * 0x1.54p-20f;", "")),
    Mutant(
      "the digits of 2 / pi begin one late", .elementwise, .cpu, .unary, ("& 0xffu) - 120", "& 0xffu) - 119")),
    Mutant(
      "a tail is one element too long", .elementwise, .cpu, .unary,
      ("EACH_PART if (j < left) store", "EACH_PART if (j <= left) store")),
    Mutant(
      "half precision is cut off, not rounded", .cast, .cpu, .cast, ("vstore_half16_rte", "vstore_half16_rtz")
    ),
    Mutant(
      "int32 is rounded, not cut off", .cast, .cpu, .cast,
      ("convert_int_sat_rtz(v)", "convert_int_sat_rte(v)")),
    Mutant("nine rounds", .noise, .cpu, .normalNoise, ("round < 10", "round < 9")),
    Mutant(
      "infinity is not counted", .elementwise, .cpu, .nonFiniteCount, ("== 0x7f800000u;", "> 0x7f800000u;")),
  ]
}

/// `langevin validate` proves itself: each fault, planted in a kernel, must make a case of its operation fail.
@Suite struct MutationTests {
  @Test(
    arguments: Mutant.products + Mutant.attentions + Mutant.norms + Mutant.elements + Mutant.gradients
      + Mutant.blocks)
  func isCaught(mutant: Mutant) throws {
    let text = try #require(
      mutant.patched(mutant.source.text), "a text of the mutant is not in the kernel once")
    let devices = OpenCLDevices.all().sorted { $0.isPoCL && !$1.isPoCL }
    #expect(devices.first?.isPoCL == true, "PoCL is missing: apt install pocl-opencl-icd")
    // PoCL puts barriers of its own around a kernel's inner loops; any other device shows what a missing one does.
    if mutant.fault.hasPrefix("no barrier"), mutant.source == .tiled, devices.allSatisfy(\.isPoCL) { return }
    var failures: [String] = []
    for device in devices where failures.isEmpty {
      failures = try self.failures(of: mutant, with: text, on: device.index)
    }
    #expect(!failures.isEmpty, "nothing fails")
  }

  /// The first case that fails on a device, where one does.
  private func failures(of mutant: Mutant, with text: String, on index: Int) throws -> [String] {
    let cache = FileManager.default.temporaryDirectory.appending(path: "langevin-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: cache) }
    let backend = try OpenCLBackend(index: index, family: mutant.family, programCache: cache) {
      source, original in
      source == mutant.source ? text : original
    }
    var validator = Validator(version: "test", reference: Device(CPUBackend()))
    validator.shrinks = false
    validator.dtypes = mutant.dtypes
    let cases = OperationCases.edge.filter { $0.operation(.float32).kind == mutant.operation }
    #expect(!cases.isEmpty)
    var failures: [String] = []
    _ = try validator.run(
      cases, on: [Validator.Subject(Device(backend), description: "a mutant")],
      shouldStop: { !failures.isEmpty },
      progress: { event in
        guard case .result(let result, _) = event, result.outcome == .failed else { return }
        // A kernel that does not compile would show nothing.
        if result.faults.contains(where: { if case .failed = $0 { true } else { false } }) { return }
        failures.append("\(result.name): \(result.problem)")
      })
    return failures
  }
}

extension DeviceDescription {
  fileprivate var isPoCL: Bool { platform == "Portable Computing Language" }
}
