import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// Each block of the UNet against diffusers.
@Suite struct BlockTests {
  @Test(
    arguments: ["resnet", "resnet_shortcut", "resnet_scale_shift", "resnet_halve", "resnet_double"],
    Setting.all)
  func resnet(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let block = try ResnetBlock2D(
      weights, inputs: fixture.int("in_channels"), outputs: fixture.int("out_channels"),
      timeChannels: fixture.int("temb_channels"),
      scalesByTime: fixture.config.string("time_embedding_norm", default: "") == "scale_shift",
      resize: fixture.config.bool("down", default: false)
        ? .halve : fixture.config.bool("up", default: false) ? .double : nil,
      groups: fixture.int("groups"), epsilon: Float(fixture.config.float("eps", default: 0)))
    try weights.finish()
    try inputs.expect(block(inputs.picture("sample"), time: inputs("temb").silu()), is: "output")
  }

  @Test(arguments: ["transformer_conv", "transformer_linear", "transformer_only_cross"], Setting.all)
  func transformer(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let block = try Transformer2D(
      weights,
      Transformer2D.Shape(
        channels: fixture.int("channels"), contextChannels: fixture.int("cross_attention_dim"),
        heads: fixture.int("heads"), depth: fixture.int("depth"), groups: fixture.int("groups"),
        onlyCrossAttention: fixture.config.bool("only_cross_attention", default: false)))
    try weights.finish()
    let context = UNetContext(tokens: try inputs("context"))
    try inputs.expect(block(inputs.picture("sample"), context: context), is: "output")
  }

  @Test(
    arguments: [
      "down", "cross_attn_down", "attn_down", "attn_down_resnet", "resnet_down", "simple_cross_down",
      "simple_cross_down_only",
    ], Setting.all)
  func down(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let block = try UNetDownBlock(
      weights, shape(fixture, resize: .convolution), inputs: fixture.int("in_channels"),
      outputs: fixture.int("out_channels"))
    try weights.finish()
    var skips: [Tensor] = []
    let output = try block(
      inputs.picture("sample"), time: inputs("temb").silu(), context: context(inputs), skips: &skips)
    try inputs.expect(output, is: "output")
    #expect(skips.count == 3)
    for (i, skip) in skips.enumerated() { try inputs.expect(skip, is: "skip.\(i)") }
  }

  @Test(
    arguments: [
      "up", "cross_attn_up", "attn_up", "attn_up_resnet", "resnet_up", "simple_cross_up",
    ], Setting.all)
  func up(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let outputs = try fixture.int("out_channels")
    let block = try UNetUpBlock(
      weights, shape(fixture, resize: .convolution), inputs: fixture.int("prev_output_channel"),
      skips: [outputs, fixture.int("in_channels")], outputs: outputs)
    try weights.finish()
    var skips = [try inputs.picture("skip.0"), try inputs.picture("skip.1")]
    let output = try block(
      inputs.picture("sample"), time: inputs("temb").silu(), context: context(inputs), skips: &skips)
    try inputs.expect(output, is: "output")
    #expect(skips.isEmpty)
  }

  @Test(
    arguments: [
      "mid_cross_attn", "mid_attention", "mid_attention_unnormalised", "mid_plain", "mid_simple_cross",
    ], Setting.all)
  func middle(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let channels = try fixture.int("in_channels")
    let block = try UNetMidBlock(weights, shape(fixture, resize: nil), channels: channels)
    try weights.finish()
    let output = try block(
      inputs.picture("sample"), time: inputs("temb").silu(), context: context(inputs))
    try inputs.expect(output, is: "output")
  }

  @Test(arguments: ["downsample", "downsample_asymmetric"], Setting.all)
  func downsample(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let block = try Downsample2D(
      weights, channels: fixture.int("channels"), padding: fixture.config.count("padding", default: 1))
    try weights.finish()
    try inputs.expect(block(inputs.picture("sample")), is: "output")
  }

  @Test(arguments: Setting.all)
  func upsample(setting: Setting) throws {
    let fixture = try Fixture("upsample")
    let (weights, inputs) = parts(fixture, setting)
    let block = try Upsample2D(weights, channels: fixture.int("channels"))
    try weights.finish()
    try inputs.expect(block(inputs.picture("sample")), is: "output")
  }

  private func parts(_ fixture: Fixture, _ setting: Setting) -> (Weights, Inputs) {
    (
      fixture.weights(on: setting.device, as: setting.dtype),
      Inputs(fixture, on: setting.device, as: setting.dtype)
    )
  }

  private func context(_ inputs: Inputs) throws -> UNetContext { UNetContext(tokens: try inputs("context")) }

  /// `resize` is what blocks of Stable Diffusion have, whose fixtures do not say.
  private func shape(_ fixture: Fixture, resize: UNetBlockShape.Resize?) throws -> UNetBlockShape {
    let config = fixture.config
    let isResnet = try config.string("resize", default: "conv") == "resnet"
    var shape = UNetBlockShape(
      layers: try fixture.int("layers"), timeChannels: try fixture.int("temb_channels"),
      scalesByTime: try config.bool("scale_shift", default: false), groups: try fixture.int("groups"),
      epsilon: Float(try config.float("eps", default: 0)), resize: resize.map { isResnet ? .resnet : $0 },
      downsamplePadding: try config.count("downsample_padding", default: 1))
    if let attention = try attention(fixture, isMiddle: resize == nil) {
      shape.attentions = Array(repeating: attention, count: shape.layers)
    }
    return shape
  }

  private func attention(_ fixture: Fixture, isMiddle: Bool) throws -> UNetAttention.Shape? {
    let config = fixture.config
    guard let heads = try config.optionalInt("heads") else { return nil }
    let (channels, groups) = (
      try fixture.int(isMiddle ? "in_channels" : "out_channels"), try fixture.int("groups")
    )
    switch try config.string("kind", default: "transformer") {
    case "attention":
      return .pixels(
        PixelAttention.Shape(
          channels: channels, heads: heads,
          groups: try config.bool("normalised", default: true) ? groups : nil,
          epsilon: Float(try config.float("eps", default: 0))))
    case "simple":
      return .addedContext(
        AddedContextAttention.Shape(
          channels: channels, contextChannels: try fixture.int("cross_attention_dim"), heads: heads,
          groups: groups, onlyContext: try config.bool("only_cross_attention", default: false),
          contextNorm: UNetContextNorm(rawValue: try config.string("cross_attention_norm", default: ""))))
    default:
      return .transformer(
        Transformer2D.Shape(
          channels: channels, contextChannels: try fixture.int("cross_attention_dim"), heads: heads, depth: 1,
          groups: groups))
    }
  }
}
