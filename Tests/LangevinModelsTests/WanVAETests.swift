import Foundation
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// WAN's autoencoder against diffusers.
@Suite struct WanVAETests {
  @Test(arguments: ["wan_vae", "wan_vae_narrow"], Setting.all)
  func autoencoder(name: String, setting: Setting) throws {
    let (model, inputs) = try open(name, setting)
    let gaussian = try model.encode(inputs.video("video"))
    try inputs.expect(gaussian.mean, is: "mean")
    try inputs.expect(gaussian.logVariance, is: "logvar")
    let latent = try inputs.video("latent")
    try inputs.expect(model.decode(latent), is: "decoded")
    let tiles = name == "wan_vae" ? WanTiles(size: 16, stride: 8) : WanTiles(size: 6, stride: 4)
    try inputs.expect(model.decode(latent, in: tiles), is: "tiled")
    try inputs.expect(model.decode(latent, in: WanTiles()), is: "decoded")
    try inputs.expect(model.normalized(latent), is: "normalized")
    try inputs.expect(model.denormalized(latent), is: "denormalized")
  }

  @Test(arguments: devices) func decoderAloneInChunks(device: Device) throws {
    let (model, inputs) = try open("wan_vae", Setting(device: device, dtype: .float32), withEncoder: false)
    let latent = try inputs.video("latent")
    var chunks: [Tensor] = []
    try model.decode(latent.reshaped(Shape(Array(latent.shape.dimensions.dropFirst())))) { chunks.append($0) }
    #expect(chunks.map { $0.shape[0] } == [1, 4, 4, 4])
    let whole = try Tensor.concatenated(chunks, axis: 0)
    try inputs.expect(whole.reshaped(Shape([1] + whole.shape.dimensions)), is: "decoded")
    #expect(throws: ModelError.notLoaded(model: "AutoencoderKLWan", part: "encoder")) {
      try model.encode(inputs.video("video"))
    }
  }

  /// A causal convolution of chunks of any length is that of the whole, for which a loop stands.
  @Test(arguments: devices) func causalConvolution(device: Device) throws {
    let fixture = try Fixture("wan_vae")
    let layer = fixture.weights(on: device, as: .float32)["encoder"]["conv_in"]
    let convolution = try Convolution3D(layer, inputs: 3, outputs: 4, frames: 3, kernel: 3)
    let weight = try layer.tensor("weight", [4, 3, 3, 3, 3]).floats()
    let bias = try layer.tensor("bias", [4]).floats()
    let (frames, height, width) = (7, 4, 5)
    let x = try Tensor.normal([frames, height, width, 3], seed: 5, on: device)
    let residual = try Tensor.normal([frames, height, width, 4], seed: 6, on: device)

    let values = try x.floats()
    var expected = try residual.floats()
    for (f, y, x, o) in indices(frames, height, width, 4) {
      var sum = bias[o]
      for (t, dy, dx, i) in indices(3, 3, 3, 3) {
        let (from, row, column) = (f + t - 2, y + dy - 1, x + dx - 1)
        guard from >= 0, (0..<height).contains(row), (0..<width).contains(column) else { continue }
        sum +=
          weight[(((o * 3 + i) * 3 + t) * 3 + dy) * 3 + dx]
          * values[((from * height + row) * width + column) * 3 + i]
      }
      expected[((f * height + y) * width + x) * 4 + o] += sum
    }

    for lengths in [[7], [1, 1, 1, 1, 1, 1, 1], [1, 4, 2], [2, 1, 4], [3, 3, 1]] {
      var history = FrameHistory()
      var start = 0
      let chunks = try lengths.map { length in
        defer { start += length }
        return try convolution(
          x.rows(start..<start + length), history: &history, residual: residual.rows(start..<start + length))
      }
      let got = try Tensor.concatenated(chunks, axis: 0).floats()
      #expect(relativeError(got, expected) < 1e-5, "chunks of \(lengths)")
    }
  }

  @Test func badInput() throws {
    let (model, inputs) = try open("wan_vae", Setting(device: devices[0], dtype: .float32))
    let video = try inputs.video("video")
    func refusal(_ body: () throws -> Void) throws -> String {
      try #require(#expect(throws: ModelError.self) { try body() }).description
    }
    let pairs = try video.reshaped([3, 3, 8, 24, 3]).sliced(0..<2, axis: 1)
    #expect(try refusal { _ = try model.encode(pairs) }.contains("2 frames"))
    #expect(
      try refusal { _ = try model.encode(video.sliced(0..<20, axis: 3)) }.contains("20x8: width and height"))
    #expect(try refusal { _ = try model.encode(video.sliced(0..<2, axis: 4)) }.contains("frames, height"))
    #expect(try refusal { _ = try model.decode(video.rows(0..<0)) }.contains("expected [N, frames"))
    for tiles in [
      WanTiles(size: 16, stride: 0), WanTiles(size: 12, stride: 8), WanTiles(size: 8, stride: 16),
    ] {
      #expect(
        try refusal { _ = try model.decode(inputs.video("latent"), in: tiles) }.contains("multiples of 8"))
    }
    #expect(
      try refusal { try model.decode(video.reshaped([9, 8, 72, 1])) { _ in } }.contains("expected [N, frames")
    )
  }

  @Test(arguments: [
    (#""is_residual": true"#, "is_residual", true), (#""patch_size": 2"#, "patch_size", true),
    (#""attn_scales": [0.5]"#, "attn_scales", true),
    (#""_class_name": "AutoencoderKL""#, "_class_name", true),
    (#""temperal_downsample": [true]"#, "temperal_downsample", false),
    (#""temperal_downsample": [true, true, true]"#, "temperal_downsample", false),
    (#""temperal_downsample": [0, 1, 1]"#, "temperal_downsample", false),
    (#""latents_mean": [0, 1]"#, "latents_mean", false), (#""latents_std": "one""#, "latents_std", false),
    (#""z_dim": 2, "latents_mean": [0, 1], "latents_std": [0, 1]"#, "latents_std", false),
    (#""dim_mult": [1, 2, 3], "base_dim": 5, "temperal_downsample": [true, true]"#, "dim_mult", false),
    (#""scale_factor_spatial": 16"#, "scale_factor_spatial", false),
  ])
  func refusedConfigurations(json: String, key: String, unsupported: Bool) throws {
    let error = #expect(throws: ModelError.self) {
      try AutoencoderKLWanConfig(ConfigObject(json: Data("{\(json)}".utf8)))
    }
    switch try #require(error) {
    case .unsupported(_, let found, _, _): #expect(unsupported && found == key)
    case .invalidConfig(_, let found, _, _): #expect(!unsupported && found == key)
    default: Issue.record("another error: \(String(describing: error))")
    }
  }

  /// The configuration of WAN 2.1 is what an empty file means.
  @Test func defaults() throws {
    let config = try AutoencoderKLWanConfig(ConfigObject(json: Data("{}".utf8)))
    #expect(config == AutoencoderKLWanConfig())
    #expect(config.downscale == 8 && config.temporalDownscale == 4)
  }

  private func open(_ name: String, _ setting: Setting, withEncoder: Bool = true) throws -> (
    AutoencoderKLWan, Inputs
  ) {
    let fixture = try Fixture(name)
    let model = try AutoencoderKLWan(
      AutoencoderKLWanConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype),
      withEncoder: withEncoder)
    return (model, Inputs(fixture, on: setting.device, as: setting.dtype))
  }
}

private func indices(_ a: Int, _ b: Int, _ c: Int, _ d: Int) -> [(Int, Int, Int, Int)] {
  (0..<a * b * c * d).map { ($0 / (b * c * d), $0 / (c * d) % b, $0 / d % c, $0 % d) }
}
