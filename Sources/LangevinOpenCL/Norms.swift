import LangevinKernels
import LangevinTensor

/// Normalisation and softmax.
extension OpenCLBackend {
  func groupNorm(_ norm: GroupNorm, _ x: [TensorView], _ y: TensorView) throws {
    let images = x[0].shape[0]
    let channels = x[0].shape[-1]
    let pixels = x[0].shape.count / (images * channels)
    let vector = family == .cpu ? 16 : 4
    // Chunks small enough to share the work among the units, large enough to pay for a work-item.
    let chunkSize = max(16, min(512, pixels * images / (max(1, context.description.computeUnits) * 8)))
    let chunks = (pixels + chunkSize - 1) / chunkSize
    let partial = try scratch(images * chunks * 3 * channels * 4)
    let coefficients = try scratch(images * 3 * channels * 4)
    let blocks = [(channels + vector - 1) / vector, chunks, images]
    let local = family == .cpu ? [1, 1, 1] : nil
    func launch(_ kernel: String, global: [Int], local: [Int]?, _ arguments: [Argument]) throws {
      try self.launch(
        Launch(
          kernel, .norm,
          ["T": x[0].dtype.kernelName, "VW": vector, "LOCAL": rowLocal], global: global, local: local,
          arguments))
    }
    try launch(
      "group_partial", global: blocks, local: local,
      [.operand(x[0]), .scratch(partial), .int(pixels), .int(channels), .int(chunkSize)])
    try launch(
      "group_combine", global: [norm.groups * rowLocal, images], local: [rowLocal, 1],
      [
        .scratch(partial), .operand(x[1]), .operand(x[2]), .scratch(coefficients), .int(pixels),
        .int(channels), .int(chunks), .int(chunkSize), .float(norm.epsilon),
      ])
    try launch(
      "group_apply", global: blocks, local: local,
      [
        .operand(x[0]), .scratch(coefficients), .operand(y), .int(pixels), .int(channels), .int(chunkSize),
        .int(norm.activation.kernelIndex),
      ])
  }

  func rowNorm(_ x: [TensorView], _ y: TensorView, epsilon: Float, affine: Bool, centred: Bool) throws {
    let width = x[0].shape[-1]
    let local = rowLocal
    try launch(
      Launch(
        "row_norm", .norm,
        ["T": y.dtype.kernelName, "VW": family == .cpu ? 16 : 4, "LOCAL": local],
        global: [y.shape.count / width * local], local: [local],
        [
          .operand(x[0]), affine ? .operand(x[1]) : .none, affine && centred ? .operand(x[2]) : .none,
          .operand(y),
          .int(width), .float(epsilon), .int(centred ? 1 : 0), .int(affine ? 1 : 0),
        ]))
  }

  func softmax(_ x: TensorView, _ y: TensorView) throws {
    let width = x.shape[-1]
    let local = rowLocal
    try launch(
      Launch(
        "softmax", .norm,
        ["T": y.dtype.kernelName, "VW": family == .cpu ? 16 : 4, "LOCAL": local],
        global: [y.shape.count / width * local], local: [local], [.operand(x), .operand(y), .int(width)]))
  }

  /// Work-items that share a row.
  private var rowLocal: Int { family == .cpu ? 1 : Subgroups.items }
}
