import LangevinNN
import LangevinTensor

/// The way down and the middle of a UNet, which its ControlNets have too.
struct UNetEncoder: Sendable {
  let convIn: Convolution
  let downBlocks: [UNetDownBlock]
  let midBlock: UNetMidBlock?
  /// The channels of every skip tensor, in the order in which the way down makes them.
  let skipChannels: [Int]

  init(_ weights: Weights, _ shape: UNetBackbone.Shape) throws {
    let channels = shape.channels
    convIn = try Convolution(
      weights["conv_in"], inputs: shape.inputs, outputs: channels[0], kernel: shape.convInKernel)
    downBlocks = try channels.indices.map { level in
      try UNetDownBlock(
        weights["down_blocks"][level], shape.down[level], inputs: channels[max(level - 1, 0)],
        outputs: channels[level])
    }
    midBlock = try shape.middle.map {
      try UNetMidBlock(weights["mid_block"], $0, channels: channels[channels.count - 1])
    }
    skipChannels = shape.skipChannels
  }

  /// x [N, H, W, inputs], time [N, timeChannels] with SiLU applied -> every skip, and the middle's output.
  ///
  /// `hint` [N or 1, H, W, C] is added to the first convolution's output, `residuals` to the down blocks and,
  /// one more, to the middle's output. Where only the first `count` skips are wanted, nothing else is computed.
  func callAsFunction(
    _ x: Tensor, time: Tensor, context: UNetContext? = nil, hint: Tensor? = nil, residuals: [Tensor] = [],
    upTo count: Int? = nil
  ) throws -> (skips: [Tensor], middle: Tensor) {
    var h = try convIn(x)
    if let hint { h = try h + hint }
    var skips = [h]
    for (level, block) in downBlocks.enumerated() where skips.count != count {
      let residual = level < residuals.count ? residuals[level] : nil
      h = try block(h, time: time, context: context, skips: &skips, residual: residual, upTo: count)
    }
    if skips.count == count { return (skips, h) }
    if let midBlock { h = try midBlock(h, time: time, context: context) }
    if residuals.count > downBlocks.count { h = try h + residuals[downBlocks.count] }
    return (skips, h)
  }
}

extension UNetBackbone.Shape {
  /// The channels of every skip tensor, in the order in which the way down makes them.
  var skipChannels: [Int] {
    zip(channels, down).reduce([channels[0]]) { skips, level in
      skips + Array(repeating: level.0, count: level.1.layers + (level.1.resize == nil ? 0 : 1))
    }
  }
}
