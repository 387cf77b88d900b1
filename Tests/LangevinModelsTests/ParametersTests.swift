import Foundation
import Langevin
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// A network's parameters by name: read back as they were loaded, and replaced.
@Suite struct ParametersTests {
  /// Fixtures with the networks that load them, of every kind of layer.
  private static let networks: [String: @Sendable (Fixture, Weights) throws -> Void] = [
    "unet_sd1": { _ = try UNet2DConditionModel(UNet2DConditionConfig($0.config), $1) },
    "unet2d_cifar10": { _ = try UNet2DModel(UNet2DConfig($0.config), $1) },
    "vae": { _ = try AutoencoderKL(AutoencoderKLConfig($0.config), $1) },
    "text_quick_gelu": { _ = try CLIPTextModel(CLIPTextConfig($0.config), $1) },
    "vision_projection": { _ = try CLIPVisionModelWithProjection(CLIPVisionConfig($0.config), $1) },
    "umt5": { _ = try T5EncoderModel(T5EncoderConfig($0.config), $1) },
    "prior_karlo": { _ = try PriorTransformer(PriorTransformerConfig($0.config), $1) },
    "text_proj": { _ = try UnCLIPTextProjection(UnCLIPTextProjectionConfig($0.config), $1) },
    "wan_transformer": { _ = try WanTransformer3DModel(WanTransformer3DConfig($0.config), $1) },
    "wan_vae": { _ = try AutoencoderKLWan(AutoencoderKLWanConfig($0.config), $1) },
  ]

  private static func bytes(_ tensor: Tensor) throws -> [UInt8] { try tensor.withBytes { [UInt8]($0) } }

  @Test(arguments: networks.keys.sorted(), Setting.all)
  func whatWasLoadedIsReadBackBitByBit(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let weights = fixture.weights(on: setting.device, as: setting.dtype)
    let load = try #require(Self.networks[name])
    try load(fixture, weights)
    let parameters = weights.parameters
    #expect(parameters.names.count > 3 && Set(parameters.names).isSubset(of: fixture.source.names))
    for name in parameters.names {
      let expected = try fixture.source.load(name, on: setting.device).cast(to: setting.dtype)
      let got = try parameters.tensor(name)
      #expect(got.spec == expected.spec && parameters.spec(of: name) == expected.spec, "\(name)")
      #expect(try Self.bytes(got) == Self.bytes(expected), "\(name)")
    }
  }

  /// Saved, the file has the bytes of the one that was loaded.
  @Test(arguments: devices) func aSavedModelIsItsFile(device: Device) throws {
    let fixture = try Fixture("vae")
    let weights = fixture.weights(on: device, as: .float32)
    _ = try AutoencoderKL(AutoencoderKLConfig(fixture.config), weights)
    let parameters = weights.parameters
    let url = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: url) }
    try SafetensorsWriter.write(
      parameters.names.map { (name: $0, tensor: try parameters.tensor($0)) }, to: url)
    let saved = try SafetensorsFile(url: url)
    #expect(Set(saved.names) == Set(fixture.source.names))
    for name in saved.names {
      #expect(
        try Self.bytes(saved.load(name, on: device)) == Self.bytes(fixture.source.load(name, on: device)))
    }
  }

  @Test(arguments: devices) func aReplacedParameterIsUsed(device: Device) throws {
    let fixture = try Fixture("text_quick_gelu")
    let config = try CLIPTextConfig(fixture.config)
    let weights = fixture.weights(on: device, as: .float32)
    func states(_ weights: Weights) throws -> [Float] {
      try CLIPTextModel(config, weights)([[1, 2, 3]]).lastHiddenState.floats()
    }
    let before = try states(weights)
    let parameters = weights.parameters
    #expect(try states(Weights(parameters, on: device)) == before)
    let name = try #require(parameters.names.first { $0.hasSuffix("mlp.fc1.weight") })
    let doubled = try parameters.tensor(name).affine(scale: 2, offset: 0)
    let replaced = try parameters.replacing(name, with: doubled)
    let after = try states(Weights(replaced, on: device))
    #expect(after.count == before.count && after != before)
    let back = try replaced.replacing(name, with: parameters.tensor(name))
    #expect(try states(Weights(back, on: device)) == before)
  }

  @Test func whatDoesNotFitIsRefused() throws {
    let device = try #require(devices.first)
    let fixture = try Fixture("text_quick_gelu")
    let weights = fixture.weights(on: device, as: .float32)
    _ = try CLIPTextModel(CLIPTextConfig(fixture.config), weights)
    let parameters = weights.parameters
    let name = try #require(parameters.names.first { $0.hasSuffix("mlp.fc1.weight") })
    let shape = try #require(parameters.spec(of: name)).shape
    let turned = Shape([shape[1], shape[0]])
    #expect(
      throws: WeightError.wrongShape(
        name: name, expected: shape, got: turned, source: parameters.description)
    ) { try parameters.replacing(name, with: .fill(0, turned, on: device)) }
    #expect(throws: WeightError.missing(name: "no", source: parameters.description)) {
      try parameters.replacing("no", with: .fill(0, shape, on: device))
    }
    #expect(throws: WeightError.missing(name: "no", source: parameters.description)) {
      try parameters.tensor("no")
    }
    #expect(throws: WeightError.unsupportedDType(name: name, source: parameters.description)) {
      try parameters.replacing(name, with: .fill(0, shape, dtype: .int32, on: device))
    }
  }
}
