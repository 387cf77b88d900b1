import Foundation
import Langevin
import LangevinCPU
import LangevinNN
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

  // MARK: Tiling

  /// Mean and greatest difference of two pictures whose values span -1...1, in levels of 255.
  private func levels(_ a: Tensor, _ b: Tensor) throws -> (mean: Float, greatest: Float) {
    let differences = zip(try a.floats(), try b.floats()).map {
      abs(min(max($0, -1), 1) - min(max($1, -1), 1)) * 127.5
    }
    return (differences.reduce(0, +) / Float(differences.count), differences.reduce(0, max))
  }

  private func show(_ what: String, _ value: Any) {
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil { print("tiling \(what): \(value)") }
  }

  @Test(arguments: [(65, 64, 16), (128, 64, 16), (129, 64, 16), (97, 24, 8), (1000, 64, 16), (31, 30, 10)])
  func tilesCoverAnAxis(length: Int, tile: Int, overlap: Int) {
    let ranges = Tiling(tile: tile, overlap: overlap).ranges(length)
    #expect(ranges.count > 1 && ranges[0].lowerBound == 0 && ranges[ranges.count - 1].upperBound == length)
    #expect(ranges.allSatisfy { $0.count <= tile && $0.count == ranges[0].count })
    for (a, b) in zip(ranges, ranges.dropFirst()) {
      #expect(a.lowerBound < b.lowerBound && a.upperBound - b.lowerBound >= overlap)
    }
    for (a, b) in zip(ranges, ranges.dropFirst(2)) { #expect(a.upperBound <= b.lowerBound) }
    let owned = Tiling.owned(ranges, length: length)
    #expect(owned.flatMap { Array($0) } == Array(0..<length))
    for (part, range) in zip(owned, ranges) {
      #expect(range.contains(part.lowerBound) && part.upperBound <= range.upperBound)
    }
  }

  /// Ramps between parts of one picture give the picture back.
  @Test func blendingKeepsAPicture() throws {
    let picture = try Tensor.normal([1, 5, 40, 2], seed: 1, on: devices[0])
    let ranges = [0..<16, 12..<28, 20..<40]
    let parts = try ranges.map { try picture.sliced($0, axis: 2) }
    let joined = try Tiling.blended(parts, at: ranges, axis: 2)
    #expect(joined.shape == picture.shape)
    #expect(relativeError(try joined.floats(), try picture.floats()) < 1e-6)
  }

  /// The difference in levels, of values that are spread as a picture's.
  private func spreadLevels(_ tiled: Tensor, _ whole: Tensor) throws -> (mean: Float, greatest: Float) {
    let values = try whole.floats()
    let mean = values.reduce(0, +) / Float(values.count)
    let spread = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(values.count)).squareRoot()
    func scaled(_ x: Tensor) throws -> Tensor {
      try x.cast(to: .float32).affine(scale: 0.5 / spread, offset: -0.5 * mean / spread)
    }
    return try levels(scaled(tiled), scaled(whole))
  }

  @Test(arguments: Setting.all) func tilesOfARandomNetwork(setting: Setting) throws {
    let fixture = try Fixture("vae")
    let model = try AutoencoderKL(
      AutoencoderKLConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let latent = try Tensor.normal([2, 30, 74, 3], seed: 3, on: setting.device).cast(to: setting.dtype)
    let tiling = Tiling(tile: 24, overlap: 8)
    let whole = try model.decode(latent)
    let tiled = try model.decode(latent, tiling: tiling)
    #expect(tiled.shape == whole.shape && tiled.dtype == whole.dtype)
    let difference = try spreadLevels(tiled, whole)
    show("random \(setting.testDescription)", difference)
    #expect(difference.mean < 1)
    // A picture no larger than a tile is what it was.
    let small = try latent.sliced(30..<50, axis: 2).sliced(0..<20, axis: 1)
    #expect(try model.decode(small, tiling: tiling).floats() == model.decode(small).floats())
  }

  /// Noise beside a blank part is the worst case: no tile is like the whole. Measuring again and again leads there.
  @Test(arguments: devices) func passesConverge(device: Device) throws {
    let fixture = try Fixture("vae")
    let model = try AutoencoderKL(
      AutoencoderKLConfig(fixture.config), fixture.weights(on: device, as: .float32))
    let noise = try Tensor.normal([1, 30, 44, 3], seed: 3, on: device)
    let blank = try Tensor.fill(0.5, [1, 30, 30, 3], on: device)
    let latent = try Tensor.concatenated([noise, blank], axis: 2)
    let whole = try model.decode(latent)
    let differences = try [0, 2, 5].map {
      try spreadLevels(
        model.decode(latent, tiling: Tiling(tile: 24, overlap: 8, measuringPasses: $0)), whole
      ).mean
    }
    show("half blank, 0, 2 and 5 passes, \(device.name)", differences)
    #expect(differences[2] < 1)
    #expect(differences[1] < differences[0] / 4 && differences[2] < differences[1])
  }

  /// The shipped model's autoencoder on sixteen pictures in one, four on a blank ground.
  @Test(arguments: devices) func tilesOfTheShippedModel(device: Device) throws {
    let model = try shippedAutoencoder(on: device)
    let face = Fixture.root.appending(
      path: "../../../Sources/Langevin/Langevin.docc/Resources/grinning-face.png")
    let picture = try Picture.read(face).picture.resized(width: 64, height: 64).tensor(on: device)
    let blank = try Tensor.fill(1, picture.shape, on: device)
    let row = try Tensor.concatenated([picture, blank, picture * -1, picture * 0.5], axis: 2)
    let other = try Tensor.concatenated([blank, blank, blank, picture], axis: 2)
    let large = try Tensor.concatenated([row, other, other, row], axis: 1)
    let tiling = Tiling(tile: 32, overlap: 10)

    let mean = try model.encode(large).mean
    let tiledMean = try model.encode(large, tiling: tiling).mean
    let error = relativeError(try tiledMean.floats(), try mean.floats())
    show("encode \(device.name)", error)
    #expect(error < 0.01)
    let whole = try model.decode(mean)
    let difference = try levels(model.decode(mean, tiling: tiling), whole)
    show("decode \(device.name)", difference)
    #expect(difference.mean < 1)
    // Measuring is what does it.
    let apart = try levels(
      model.decode(mean, tiling: Tiling(tile: 32, overlap: 10, measuringPasses: 0)), whole)
    show("decode without measuring \(device.name)", apart)
    #expect(apart.mean > 2 * difference.mean)
  }

  /// The shipped model's autoencoder at 256x256, in one piece and in tiles of 80x80.
  @Test func tilesBoundMemory() throws {
    func peak(_ tiling: Tiling?) throws -> Int {
      let device = Device(CPUBackend())
      let model = try shippedAutoencoder(on: device, withEncoder: false)
      let latent = try Tensor.normal([1, 64, 64, 4], seed: 1, on: device)
      _ = try model.decode(latent, tiling: tiling).floats()
      return device.backend.memory.highWater
    }
    let (whole, tiled) = (try peak(nil), try peak(Tiling(tile: 20, overlap: 5, measuringPasses: 1)))
    show("memory", (whole, tiled))
    #expect(tiled < whole / 2)
  }

  private func shippedAutoencoder(on device: Device, withEncoder: Bool = true) throws -> AutoencoderKL {
    let folder = try DefaultModel.url.appending(path: "vae")
    let config = try AutoencoderKLConfig(
      ConfigObject(json: Data(contentsOf: folder.appending(path: "config.json"))))
    let file = try SafetensorsFile(url: folder.appending(path: "diffusion_pytorch_model.safetensors"))
    return try AutoencoderKL(config, Weights(file, on: device), withEncoder: withEncoder)
  }

  @Test(arguments: [(16, 8, 1), (0, 0, 1), (64, 0, 1), (64, 16, -1)])
  func badTilesAreRefused(tile: Int, overlap: Int, passes: Int) throws {
    let fixture = try Fixture("vae")
    let model = try AutoencoderKL(
      AutoencoderKLConfig(fixture.config), fixture.weights(on: devices[0], as: .float32))
    let tiling = Tiling(tile: tile, overlap: overlap, measuringPasses: passes)
    #expect(throws: ModelError.self) {
      try model.decode(.fill(0, [1, 4, 4, 3], on: devices[0]), tiling: tiling)
    }
    #expect(throws: ModelError.self) {
      try model.encode(.fill(0, [1, 8, 8, 3], on: devices[0]), tiling: tiling)
    }
  }
}
