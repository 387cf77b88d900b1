import LangevinTensor

/// Gradients whose kernels serve both sets. Sums are taken by parts of a fixed size, then in order: the same bits
/// every time, whatever is tuned.
extension KernelSet {
  /// Of x [N, H, W, C] and g [N, H', W', O], y [taps * C, O].
  func conv2dWeightGradient(
    _ conv: Conv2D, _ x: TensorView, _ g: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    guard g.shape.count > 0, x.shape.count > 0 else { return try fill(0, y.spec, y, on: &queue) }
    try weightGradient(
      ConvolutionGeometry(conv, input: x.shape, output: g.shape), x, g, y, on: &queue)
  }

  /// By parts of the pixels, which are then added; `launch` puts the kernel on the queue.
  func sum(
    _ parts: SumParts, _ y: TensorView, on queue: inout LaunchQueue,
    _ launch: (_ target: TensorView, _ inParts: Bool, inout LaunchQueue) throws -> Void
  ) throws {
    guard parts.count > 1 else { return try launch(y, false, &queue) }
    let count = y.shape.count
    let partial = try queue.scratch(parts.count * count * 4)
    let target = TensorView(storage: partial, offset: 0, spec: TensorSpec([parts.count, count]))
    try launch(target, true, &queue)
    try combine(partial, y, count: count, parts: parts.count, on: &queue)
  }

  private func program(_ dtype: DType, _ queue: inout LaunchQueue) -> Program {
    .normGradient(
      dtype, vector: work.vector, items: work.rowItems, rows: work.gradientRows,
      subgroups: usesSubgroups(&queue))
  }

  func groupNormGradient(
    _ norm: GroupNorm, _ x: TensorView, gamma: TensorView, beta: TensorView, _ g: TensorView, _ y: TensorView,
    on queue: inout LaunchQueue
  ) throws {
    // Nothing was normalised: gamma and beta have no influence.
    guard x.shape.count > 0 else { return try fill(0, y.spec, y, on: &queue) }
    let (images, channels) = (x.shape[0], x.shape[-1])
    let pixels = x.shape.count / (images * channels)
    let chunkSize = work.gradientChunk
    let chunks = (pixels + chunkSize - 1) / chunkSize
    let (perImage, perChunk) = (images * channels * 4, images * chunks * channels * 4)
    let (partial, moments) = (try queue.scratch(3 * perChunk), try queue.scratch(3 * perImage))
    let sums = try queue.scratch(2 * perChunk)
    let (totals, means) = (try queue.scratch(2 * perImage), try queue.scratch(2 * perImage))
    let program = program(x.dtype, &queue)
    let blocks = [(channels + work.vector - 1) / work.vector, chunks, images]
    let groups = [norm.groups * work.rowItems, images]
    try queue.launch(
      GroupPartialKernel(x: x, partial: partial, pixels: pixels, channels: channels, chunkSize: chunkSize),
      normProgram(x.dtype, &queue), global: blocks, local: work.local(rank: 3))
    try queue.launch(
      GroupMomentsKernel(
        partial: partial, moments: moments, pixels: pixels, channels: channels, chunks: chunks,
        chunkSize: chunkSize, epsilon: norm.epsilon), program, global: groups, local: [work.rowItems, 1])
    try queue.launch(
      GroupGradientPartialKernel(
        x: x, gamma: gamma, beta: beta, g: g, moments: moments, sums: sums, pixels: pixels,
        channels: channels, chunkSize: chunkSize, activation: norm.activation),
      program, global: blocks, local: work.local(rank: 3))
    try queue.launch(
      GroupGradientCombineKernel(
        sums: sums, gamma: gamma, totals: totals, means: means, pixels: pixels, channels: channels,
        chunks: chunks), program, global: groups, local: [work.rowItems, 1])
    try queue.launch(
      GroupGradientApplyKernel(
        x: x, gamma: gamma, beta: beta, g: g, y: y, moments: moments, means: means, pixels: pixels,
        channels: channels, chunkSize: chunkSize, activation: norm.activation),
      program, global: blocks, local: work.local(rank: 3))
    try combine(totals, y, from: x.shape.count, count: 2 * channels, parts: images, on: &queue)
  }

  /// Layer norm's where centred, else RMS norm's.
  func rowNormGradient(
    _ x: TensorView, gamma: TensorView?, _ g: TensorView, _ y: TensorView, epsilon: Float, centred: Bool,
    on queue: inout LaunchQueue
  ) throws {
    guard x.shape.count > 0 else { return try fill(0, y.spec, y, on: &queue) }
    let width = x.shape[-1]
    let rows = x.shape.count / width
    let parts = (rows + work.gradientRows - 1) / work.gradientRows
    let sums = gamma == nil ? 0 : (centred ? 2 : 1) * width
    let partial = try queue.scratch(max(4, parts * sums * 4))
    try queue.launch(
      RowNormGradientKernel(
        x: x, gamma: gamma, g: g, y: y, sums: partial, rows: rows, width: width, epsilon: epsilon,
        centred: centred), program(x.dtype, &queue), global: [parts * work.rowItems], local: [work.rowItems])
    try combine(partial, y, from: x.shape.count, count: sums, parts: parts, on: &queue)
  }

  func unaryGradient(
    _ function: Unary, _ x: TensorView, _ g: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let count = y.shape.count
    try queue.launch(
      UnaryGradientKernel(x: x, g: g, y: y, count: count, function: function.kernelIndex),
      elementwiseGradient(y.dtype), global: [(count + work.chunk - 1) / work.chunk], local: [work.group])
  }

  func gegluGradient(_ x: TensorView, _ g: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let width = g.shape[-1]
    let (rows, chunks) = (g.shape.count / width, (width + work.chunk - 1) / work.chunk)
    try queue.launch(
      GEGLUGradientKernel(x: x, g: g, y: y, rows: rows, width: width, chunks: chunks),
      elementwiseGradient(y.dtype), global: [rows * chunks], local: [work.group])
  }

  func adamW(
    _ step: AdamW, state: TensorView, gradient: TensorView, scale: TensorView, _ y: TensorView,
    on queue: inout LaunchQueue
  ) throws {
    let count = gradient.shape.count
    try queue.launch(
      AdamWKernel(state: state, gradient: gradient, scale: scale, y: y, count: count, step: step),
      elementwiseGradient(gradient.dtype), global: [(count + work.chunk - 1) / work.chunk],
      local: [work.group])
  }

  func embeddingGradient(
    ids: TensorView, _ g: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let (rows, width) = (y.shape[0], y.shape[1])
    let tile = work.embedding
    let columns = tile.lanes * work.vector
    try queue.launch(
      EmbeddingGradientKernel(ids: ids, g: g, y: y, count: ids.shape.count, rows: rows, width: width),
      .embeddingGradient(y.dtype, tile),
      global: [(width + columns - 1) / columns, (rows + tile.rows - 1) / tile.rows],
      local: work.local(rank: 2))
  }

  private func elementwiseGradient(_ dtype: DType) -> Program {
    .elementwiseGradient(dtype, vector: work.vector, chunk: work.chunk)
  }
}
