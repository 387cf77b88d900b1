import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// Whole networks against diffusers and transformers.
@Suite struct ModelTests {
  @Test(arguments: ["unet_sd1", "unet_sd2"], Setting.all)
  func unet(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try UNet2DConditionModel(
      UNet2DConditionConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let output = try model(
      inputs.picture("sample"), timesteps: inputs.floats("timesteps"), context: inputs("context"))
    try inputs.expect(output, is: "output")
  }

  @Test(arguments: ["text_quick_gelu", "text_gelu"], Setting.all)
  func textEncoder(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try CLIPTextModel(
      CLIPTextConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let ids = try fixture.io.load("ids", on: setting.device)
    let flat = try ids.int32s()
    let prompts = (0..<ids.shape[0]).map { Array(flat[$0 * ids.shape[1]..<($0 + 1) * ids.shape[1]]) }
    let output = try model(prompts)
    try inputs.expect(output.lastHiddenState, is: "last_hidden_state")
    try inputs.expect(model.pooled(output.lastHiddenState, of: prompts), is: "pooled")
    try inputs.expect(model.hiddenStates(prompts, skipLast: 1), is: "penultimate")
  }

  @Test(arguments: ["vae", "vae_plain"], Setting.all)
  func autoencoder(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try AutoencoderKL(
      AutoencoderKLConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let latent = try model.encode(inputs.picture("picture"))
    try inputs.expect(latent.mean, is: "mean")
    try inputs.expect(latent.logVariance, is: "logvar")
    try inputs.expect(model.decode(inputs.picture("latent")), is: "decoded")
  }

  /// Autoencoders of early diffusers have other names, and their projections may be 1x1 convolutions.
  @Test(arguments: devices) func earlyAutoencoderNames(device: Device) throws {
    let fixture = try Fixture("vae")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let names = ["to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"]
    let source = RenamedSource(fixture.source) { name in
      var name = name
      for (new, old) in names { name.replace("attentions.0." + new, with: "attentions.0." + old) }
      return name
    } reshape: { name, shape in
      name.contains("attentions") && shape.rank == 2 ? Shape(shape.dimensions + [1, 1]) : shape
    }
    let model = try AutoencoderKL(AutoencoderKLConfig(fixture.config), Weights(source, on: device))
    try inputs.expect(model.decode(inputs.picture("latent")), is: "decoded")
  }

  @Test(arguments: devices) func decoderAlone(device: Device) throws {
    let fixture = try Fixture("vae")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let model = try AutoencoderKL(
      AutoencoderKLConfig(fixture.config), fixture.weights(on: device, as: .float32), withEncoder: false)
    try inputs.expect(model.decode(inputs.picture("latent")), is: "decoded")
    #expect(throws: ModelError.notLoaded(model: "AutoencoderKL", part: "encoder")) {
      try model.encode(inputs.picture("picture"))
    }
  }

  @Test(arguments: devices) func gaussianSample(device: Device) throws {
    let moments = try Tensor([1, -2, 0, 50, 0.5, 3, -60, 0] as [Float], [1, 1, 2, 4], on: device)
    let gaussian = try DiagonalGaussian(moments: moments)
    #expect(try gaussian.mean.floats() == [1, -2, 0.5, 3])
    #expect(try gaussian.logVariance.floats() == [0, 20, -30, 0])
    let sample = try gaussian.sample(noise: Tensor([2, 0, 1, -1] as [Float], [1, 1, 2, 2], on: device))
      .floats()
    #expect(relativeError(sample, [3, -2, 0.5, 2]) < 1e-6)
  }
}

/// A source under other names and shapes.
final class RenamedSource: WeightSource {
  let base: any WeightSource
  let names: [String]
  private let original: [String: String]
  private let reshape: @Sendable (String, Shape) -> Shape

  init(
    _ base: any WeightSource, rename: (String) -> String,
    reshape: @escaping @Sendable (String, Shape) -> Shape = { $1 }
  ) {
    self.base = base
    names = base.names.map(rename)
    original = Dictionary(uniqueKeysWithValues: zip(names, base.names))
    self.reshape = reshape
  }

  var description: String { base.description }

  func spec(of name: String) -> TensorSpec? {
    original[name].flatMap { base.spec(of: $0) }.map { TensorSpec(reshape(name, $0.shape), $0.dtype) }
  }

  func load(_ name: String, on device: Device) throws -> Tensor {
    let tensor = try base.load(original[name] ?? name, on: device)
    return try tensor.reshaped(reshape(name, tensor.shape))
  }
}
