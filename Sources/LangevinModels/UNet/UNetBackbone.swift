import LangevinNN
import LangevinTensor

/// A U of ResNet blocks: down to small pictures and up again, each level of the way up beside what the way down
/// left. arXiv:1505.04597, with the blocks of arXiv:2006.11239.
struct UNetBackbone: Sendable {
  struct Shape: Sendable, Hashable {
    var inputs: Int
    var outputs: Int
    /// Width of each level, the largest picture first.
    var channels: [Int]
    /// The largest picture first.
    var down: [UNetBlockShape]
    var middle: UNetBlockShape?
    /// The smallest picture first.
    var up: [UNetBlockShape]
    var groups: Int
    var epsilon: Float
    var convInKernel = 3
    var convOutKernel = 3
  }

  let encoder: UNetEncoder
  let upBlocks: [UNetUpBlock]
  let normOut: GroupNormalization
  let convOut: Convolution

  init(_ weights: Weights, _ shape: Shape) throws {
    let channels = shape.channels
    let last = channels.count - 1
    encoder = try UNetEncoder(weights, shape)
    var skips = encoder.skipChannels
    upBlocks = try channels.indices.map { i in
      let level = last - i
      let block = shape.up[i]
      let own = Array(skips.suffix(block.layers).reversed())
      skips.removeLast(block.layers)
      return try UNetUpBlock(
        weights["up_blocks"][i], block, inputs: channels[min(level + 1, last)], skips: own,
        outputs: channels[level])
    }
    normOut = try GroupNormalization(
      weights["conv_norm_out"], channels: channels[0], groups: shape.groups, epsilon: shape.epsilon)
    convOut = try Convolution(
      weights["conv_out"], inputs: channels[0], outputs: shape.outputs, kernel: shape.convOutKernel)
  }

  /// x [N, H, W, inputs], time [N, timeChannels] with SiLU applied -> [N, H, W, outputs].
  func callAsFunction(
    _ x: Tensor, time: Tensor, context: UNetContext? = nil, additions: UNetAdditions = UNetAdditions()
  ) throws -> Tensor {
    let deep = additions.deepFeatures
    var (skips, h) = try encoder(
      x, time: time, context: context, residuals: additions.blocks,
      upTo: deep?.isReused == true ? deep.map { $0.branch + 1 } : nil)
    for (i, residual) in additions.skips.prefix(skips.count).enumerated() {
      skips[i] = try skips[i] + residual
    }
    // How many skips there are where all of the way down was computed.
    var left = encoder.skipChannels.count
    if skips.count == left, let residual = additions.middle { h = try h + residual }
    for block in upBlocks {
      let first = left - skips.count
      left -= block.resnets.count
      if first >= block.resnets.count { continue }
      h = try block(h, time: time, context: context, skips: &skips, from: first, deep: deep)
    }
    return try convOut(normOut(h, activation: .silu))
  }
}
