import LangevinTensor

/// Normalisation and softmax.
extension KernelSet {
  func normProgram(_ dtype: DType, _ queue: inout LaunchQueue) -> Program {
    .norm(dtype, vector: work.vector, items: work.rowItems, subgroups: usesSubgroups(&queue))
  }

  func groupNorm(_ norm: GroupNorm, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let operands = NormOperands(x)
    let x = operands.x
    let (images, channels) = (x.shape[0], x.shape[-1])
    let pixels = x.shape.count / (images * channels)
    // Chunks small enough to share the work among the units, large enough to pay for a work-item.
    let chunkSize = max(16, min(512, pixels * images / (max(1, device.computeUnits) * 8)))
    let chunks = (pixels + chunkSize - 1) / chunkSize
    let partial = try queue.scratch(images * chunks * 3 * channels * 4)
    let coefficients = try queue.scratch(images * 3 * channels * 4)
    let blocks = [(channels + work.vector - 1) / work.vector, chunks, images]
    let program = normProgram(x.dtype, &queue)
    try queue.launch(
      GroupPartialKernel(
        x: x, partial: partial, pixels: pixels, channels: channels, chunkSize: chunkSize), program,
      global: blocks, local: work.local(rank: 3))
    try queue.launch(
      GroupCombineKernel(
        partial: partial, gamma: operands.gamma, beta: operands.beta, coefficients: coefficients,
        pixels: pixels, channels: channels, chunks: chunks, chunkSize: chunkSize, epsilon: norm.epsilon),
      program,
      global: [norm.groups * work.rowItems, images], local: [work.rowItems, 1])
    try queue.launch(
      GroupApplyKernel(
        x: x, coefficients: coefficients, y: y, pixels: pixels, channels: channels, chunkSize: chunkSize,
        activation: norm.activation), program, global: blocks, local: work.local(rank: 3))
  }

  func layerNorm(_ norm: LayerNorm, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    try rowNorm(NormOperands(x), y, epsilon: norm.epsilon, centred: true, on: &queue)
  }

  func rmsNorm(_ epsilon: Float, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    try rowNorm(NormOperands(x), y, epsilon: epsilon, centred: false, on: &queue)
  }

  private func rowNorm(
    _ operands: NormOperands<TensorView>, _ y: TensorView, epsilon: Float, centred: Bool,
    on queue: inout LaunchQueue
  ) throws {
    let kernel = RowNormKernel(
      x: operands.x, gamma: operands.gamma, beta: operands.beta, y: y, width: y.shape[-1], epsilon: epsilon,
      centred: centred, affine: operands.gamma != nil)
    try row(kernel, y, on: &queue)
  }

  func softmax(_ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    try row(SoftmaxKernel(x: x, y: y, width: y.shape[-1]), y, on: &queue)
  }

  /// One work-group for each row of y.
  private func row(_ kernel: some Kernel, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let program = normProgram(y.dtype, &queue)
    try queue.launch(
      kernel, program, global: [y.shape.count / y.shape[-1] * work.rowItems],
      local: [work.rowItems])
  }
}
