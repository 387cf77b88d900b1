import Langevin
import LangevinTensor
import Testing

@testable import LangevinModels

/// Autoencoders beside the plain AutoencoderKL: goldens by Tests/Golden/make_autoencoders.py.
@Suite struct AutoencoderTests {
  @Test(arguments: Setting.all) func tiny(setting: Setting) throws {
    let fixture = try Fixture("vae_tiny")
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let config = try AutoencoderTinyConfig(fixture.config)
    #expect(config.downscale == 4 && config.scalingFactor == 0.5)
    let model = try AutoencoderTiny(config, fixture.weights(on: setting.device, as: setting.dtype))
    try inputs.expect(model.encode(inputs.picture("picture")), is: "encoded")
    try inputs.expect(model.decode(inputs.picture("latent")), is: "decoded")
  }

  @Test func tinyDecoderAlone() throws {
    let fixture = try Fixture("vae_tiny")
    let device = devices[0]
    let inputs = Inputs(fixture, on: device, as: .float32)
    let model = try AutoencoderTiny(
      AutoencoderTinyConfig(fixture.config), fixture.weights(on: device, as: .float32), withEncoder: false)
    try inputs.expect(model.decode(inputs.picture("latent")), is: "decoded")
    #expect(throws: ModelError.notLoaded(model: "AutoencoderTiny", part: "encoder")) {
      try model.encode(inputs.picture("picture"))
    }
    for shape: Shape in [[1, 4, 3, 4], [4, 3, 5], [1, 0, 3, 5]] {
      #expect(throws: ModelError.self, "\(shape)") { try model.decode(.fill(0, shape, on: device)) }
    }
  }
}
