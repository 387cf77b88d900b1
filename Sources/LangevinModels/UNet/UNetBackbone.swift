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

  let convIn: Convolution
  let downBlocks: [UNetDownBlock]
  let midBlock: UNetMidBlock?
  let upBlocks: [UNetUpBlock]
  let normOut: GroupNormalization
  let convOut: Convolution

  init(_ weights: Weights, _ shape: Shape) throws {
    let channels = shape.channels
    let last = channels.count - 1
    convIn = try Convolution(
      weights["conv_in"], inputs: shape.inputs, outputs: channels[0], kernel: shape.convInKernel)

    // The channels of every skip tensor, in the order in which the way down makes them.
    var skips = [channels[0]]
    downBlocks = try channels.indices.map { level in
      let block = shape.down[level]
      skips += Array(repeating: channels[level], count: block.layers + (block.resize == nil ? 0 : 1))
      return try UNetDownBlock(
        weights["down_blocks"][level], block, inputs: channels[max(level - 1, 0)], outputs: channels[level])
    }
    midBlock = try shape.middle.map {
      try UNetMidBlock(weights["mid_block"], $0, channels: channels[last])
    }
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
  func callAsFunction(_ x: Tensor, time: Tensor, context: UNetContext? = nil) throws -> Tensor {
    var h = try convIn(x)
    var skips = [h]
    for block in downBlocks { h = try block(h, time: time, context: context, skips: &skips) }
    if let midBlock { h = try midBlock(h, time: time, context: context) }
    for block in upBlocks { h = try block(h, time: time, context: context, skips: &skips) }
    return try convOut(normOut(h, activation: .silu))
  }
}
