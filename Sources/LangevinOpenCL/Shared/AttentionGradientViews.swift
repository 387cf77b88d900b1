import LangevinTensor

/// What the gradient of attention reads, and the three parts of its result.
struct AttentionGradientViews {
  let q, k, v, o, g: TensorView
  let mask: TensorView?
  let dq, dk, dv: TensorView
  /// Images, queries, keys, and channels of a head.
  let images, queries, keys, size: Int

  /// Inputs in the operation's order: queries, keys, values, output, its gradient, and a mask where there is one.
  init(_ attention: Attention, _ x: [TensorView], _ y: TensorView) {
    (q, k, v, o, g) = (x[0], x[1], x[2], x[3], x[4])
    mask = attention.mask ? x[5] : nil
    (images, queries, keys, size) = (q.shape[0], q.shape[1], k.shape[1], q.shape[2] / attention.heads)
    dq = y
    dk = y.part(from: q.shape.count)
    dv = dk.part(from: k.shape.count)
  }
}

extension KernelSet {
  func attentionGradient(
    _ attention: Attention, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    guard y.shape.count > 0 else { return }
    let views = AttentionGradientViews(attention, x, y)
    // Without queries or without keys nothing was added to anything.
    guard views.queries > 0, views.keys > 0 else { return try fill(0, y.spec, y, on: &queue) }
    try attentionGradient(attention, views, on: &queue)
  }
}
