import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// Each block of the UNet against diffusers.
@Suite struct BlockTests {
  @Test(arguments: ["resnet", "resnet_shortcut"], Setting.all)
  func resnet(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let block = try ResnetBlock2D(
      weights, inputs: fixture.int("in_channels"), outputs: fixture.int("out_channels"),
      timeChannels: fixture.int("temb_channels"), groups: fixture.int("groups"),
      epsilon: Float(fixture.config.float("eps", default: 0)))
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
    try inputs.expect(block(inputs.picture("sample"), context: inputs("context")), is: "output")
  }

  @Test(arguments: ["down", "cross_attn_down"], Setting.all)
  func down(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let block = try UNetDownBlock(
      weights, shape(fixture), inputs: fixture.int("in_channels"), outputs: fixture.int("out_channels"),
      downsamplePadding: fixture.config.count("downsample_padding", default: 1))
    try weights.finish()
    var skips: [Tensor] = []
    let output = try block(
      inputs.picture("sample"), time: inputs("temb").silu(), context: inputs("context"), skips: &skips)
    try inputs.expect(output, is: "output")
    #expect(skips.count == 3)
    for (i, skip) in skips.enumerated() { try inputs.expect(skip, is: "skip.\(i)") }
  }

  @Test(arguments: ["up", "cross_attn_up"], Setting.all)
  func up(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let (weights, inputs) = parts(fixture, setting)
    let outputs = try fixture.int("out_channels")
    let block = try UNetUpBlock(
      weights, shape(fixture), inputs: fixture.int("prev_output_channel"),
      skips: [outputs, fixture.int("in_channels")], outputs: outputs, upsamples: true)
    try weights.finish()
    var skips = [try inputs.picture("skip.0"), try inputs.picture("skip.1")]
    let output = try block(
      inputs.picture("sample"), time: inputs("temb").silu(), context: inputs("context"), skips: &skips)
    try inputs.expect(output, is: "output")
    #expect(skips.isEmpty)
  }

  @Test(arguments: Setting.all)
  func middle(setting: Setting) throws {
    let fixture = try Fixture("mid_cross_attn")
    let (weights, inputs) = parts(fixture, setting)
    let shape = try shape(fixture)
    var attention = try #require(shape.attention)
    attention.channels = try fixture.int("in_channels")
    let block = try UNetMidBlock(weights, shape, attention: attention)
    try weights.finish()
    let output = try block(inputs.picture("sample"), time: inputs("temb").silu(), context: inputs("context"))
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

  private func shape(_ fixture: Fixture) throws -> UNetBlockShape {
    let groups = try fixture.int("groups")
    let attention = try fixture.config.optionalInt("heads").map { heads in
      Transformer2D.Shape(
        channels: try fixture.int("out_channels"), contextChannels: try fixture.int("cross_attention_dim"),
        heads: heads, depth: 1, groups: groups)
    }
    return UNetBlockShape(
      layers: try fixture.int("layers"), timeChannels: try fixture.int("temb_channels"), groups: groups,
      epsilon: Float(try fixture.config.float("eps", default: 0)), attention: attention)
  }
}
