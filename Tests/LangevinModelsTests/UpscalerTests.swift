import Foundation
import Langevin
import LangevinCPU
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// The networks of Real-ESRGAN: goldens by Tests/Golden/make_upscalers.py.
@Suite struct UpscalerTests {
  private static let names = [
    "upscaler_rrdb_x4", "upscaler_rrdb_x2", "upscaler_compact_x4", "upscaler_compact_x3",
  ]

  private func expected(_ fixture: Fixture) throws -> UpscalerConfig {
    if try fixture.config.optionalInt("growth") == nil {
      var config = SRVGGNetCompactConfig()
      (config.convolutions, config.features) = try (fixture.int("convolutions"), fixture.int("features"))
      config.scale = try fixture.int("scale")
      return .compact(config)
    }
    var config = RRDBNetConfig()
    (config.blocks, config.features) = try (fixture.int("blocks"), fixture.int("features"))
    (config.growth, config.scale) = try (fixture.int("growth"), fixture.int("scale"))
    return .rrdbNet(config)
  }

  @Test(arguments: names, Setting.all) func agreesWithPyTorch(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let config = try UpscalerConfig(fixture.source)
    let network = try UpscalerNetwork(config, fixture.weights(on: setting.device, as: setting.dtype))
    try inputs.expect(network(inputs.picture("picture")), is: "output")
  }

  @Test(arguments: names) func theWeightsTellTheArchitecture(name: String) throws {
    let fixture = try Fixture(name)
    #expect(try UpscalerConfig(fixture.source) == expected(fixture))
  }

  @Test func otherWeightsAreNoUpscaler() throws {
    let file = try Fixture("upscaler_rrdb_x4").source
    let compact = try Fixture("upscaler_compact_x4").source
    let others: [any WeightSource] = [
      try Fixture("vae_tiny").source, Some(of: file) { !$0.hasPrefix("body.0.rdb1") },
      Some(of: file) { !$0.hasPrefix("conv_last") }, Some(of: compact) { $0 != "body.8.weight" },
      Some(of: compact) { _ in false },
    ]
    for source in others {
      let error = #expect(throws: ModelError.self) { try UpscalerConfig(source) }
      guard case .unknownArchitecture(let path, _, _) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(path == source.description)
    }
  }

  /// The architecture is known, and a tensor of it is missing or too much.
  @Test func everyTensorIsNeeded() throws {
    let device = devices[0]
    let source = try Fixture("upscaler_rrdb_x4").source
    for name in ["conv_hr.bias", "body.1.rdb3.conv5.weight"] {
      let part = Some(of: source) { $0 != name }
      #expect(throws: WeightError.missing(name: name, source: source.description)) {
        try UpscalerNetwork(UpscalerConfig(part), Weights(part, on: device))
      }
    }
    // Without the first of the second block's tensors it is a network of one block.
    let less = Some(of: source) { $0 != "body.1.rdb1.conv1.weight" }
    #expect(throws: WeightError.self) { try UpscalerNetwork(UpscalerConfig(less), Weights(less, on: device)) }
  }

  @Test func pixelsAreShuffledAndBack() throws {
    // [1, 1, 2, 8]: two pixels of two colours, each of four parts.
    let x = try Tensor((0..<16).map(Float.init), [1, 1, 2, 8], on: devices[0])
    let large = try x.pixelShuffled(2)
    #expect(large.shape == [1, 2, 4, 2])
    #expect(try large.floats() == [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15])
    #expect(try large.pixelUnshuffled(2).floats() == x.floats())
  }

  // MARK: Tiles

  /// What is beyond the reach of a pixel does not depend on it, and what is a little within does.
  @Test(arguments: names) func aPixelReachesAsFarAsItSays(name: String) throws {
    let fixture = try Fixture(name)
    let device = devices[0]
    let config = try UpscalerConfig(fixture.source)
    let network = try UpscalerNetwork(config, fixture.weights(on: device, as: .float32))
    let length = 2 * (config.reach + 4)
    func column(_ middle: Float) throws -> [Float] {
      var values = [Float](repeating: 0.5, count: length * 4 * 3)
      for index in 0..<12 { values[length / 2 * 12 + index] = middle }
      return try network(Tensor(values, [1, length, 4, 3], on: device)).floats()
    }
    let changes = zip(try column(0.5), try column(1)).map { abs($0 - $1) }
    let row = 4 * 3 * config.scale
    let changed = changes.indices.filter { changes[$0] > 0 }.map { $0 / row / config.scale }
    let (first, last) = (try #require(changed.first), try #require(changed.last))
    #expect(first >= length / 2 - config.reach && last <= length / 2 + config.reach)
    // What the longest paths of dense blocks carry is less than float32 keeps.
    #expect(last >= length / 2 + config.reach / 2)
  }

  private func picture(_ width: Int, _ height: Int) throws -> Picture {
    let pixels = (0..<width * height * 3).map { index in
      let (x, y) = (index / 3 % width, index / 3 / width)
      return UInt8((x * x / 7 + y * x / 5 + index % 3 * 60 + (x / 9 + y / 6) % 2 * 90) % 256)
    }
    return try Picture(width: width, height: height, pixels: pixels)
  }

  private func upscaler(_ name: String, on device: Device) throws -> Upscaler {
    let url = Fixture.root.appending(path: "\(name)/weights.safetensors")
    return try Upscaler(UpscalerFile(url), on: device)
  }

  private func greatest(_ a: Picture, _ b: Picture) -> Int {
    zip(a.pixels, b.pixels).reduce(0) { max($0, abs(Int($1.0) - Int($1.1))) }
  }

  /// Odd sizes: what a folding network needs besides is mirrored and cut off again.
  @Test(arguments: ["upscaler_compact_x4", "upscaler_rrdb_x2"], [0, 1])
  func tilesCannotBeSeen(name: String, device: Int) throws {
    try #require(devices.count > device)
    let upscaler = try upscaler(name, on: devices[device])
    let isFolding = upscaler.config.multiple > 1
    let picture = try isFolding ? picture(271, 33) : picture(75, 61)
    let overlap = 2 * upscaler.config.reach
    let whole = try upscaler(picture, tiling: Tiling(tile: 1 << 20, overlap: overlap, measuringPasses: 0))
    var counts: [Int] = []
    let tiled = try upscaler(
      picture, tiling: Tiling(tile: 3 * overlap, overlap: overlap, measuringPasses: 0)
    ) { counts.append($0 * 1000 + $1) }
    let tiles = isFolding ? 2 : 12
    #expect(counts == (1...tiles).map { $0 * 1000 + tiles })
    #expect(whole.width == picture.width * upscaler.config.scale && whole.height == tiled.height)
    #expect(greatest(whole, tiled) <= 1)
    // Tiles that see too little can be seen.
    let blind = try upscaler(picture, tiling: Tiling(tile: 32, overlap: 4, measuringPasses: 0))
    #expect(greatest(whole, blind) > 1)
  }

  @Test func tilesBoundMemory() throws {
    func peak(_ tile: Int) throws -> Int {
      let device = Device(CPUBackend())
      let upscaler = try upscaler("upscaler_compact_x4", on: device)
      _ = try upscaler(picture(420, 60), tiling: upscaler.tiling(tile))
      return device.backend.memory.highWater
    }
    let (whole, tiled) = (try peak(1 << 20), try peak(64))
    #expect(tiled < whole / 3)
  }

  @Test(arguments: [32, 33, 50, 100, 192, 1 << 20]) func everyTileHasItsTiling(tile: Int) throws {
    for name in Self.names {
      let upscaler = try upscaler(name, on: devices[0])
      for length in [1, 2, 31, 200] {
        let (height, multiple) = (length * upscaler.config.multiple, upscaler.config.multiple)
        let tiles = try upscaler.tiling(tile).tiles(height: height, width: 40, multiple: multiple)
        #expect(tiles.filter { $0.ownColumns.contains(0) }.flatMap(\.ownRows) == Array(0..<height))
        #expect(tiles.allSatisfy { $0.rows.lowerBound % multiple == 0 && $0.rows.count <= tile })
        #expect(tiles.allSatisfy { $0.rows.count % multiple == 0 && $0.rows.count == tiles[0].rows.count })
      }
    }
  }

  // MARK: Scales and layers

  @Test func smallerScalesAreReduced() throws {
    let upscaler = try upscaler("upscaler_compact_x4", on: devices[0])
    let picture = try picture(20, 9)
    let half = try upscaler(picture, scale: 2)
    #expect(try half == upscaler(picture).resized(width: 40, height: 18, filter: .lanczos))
    for scale in [0, 5, -1] {
      #expect(throws: ModelError.self) { try upscaler(picture, scale: scale) }
    }
    #expect(throws: ModelError.self) { try upscaler(picture, tiling: Tiling(tile: 8, overlap: 8)) }
  }

  @Test func transparencyIsEnlargedLikeAGreyPicture() throws {
    let upscaler = try upscaler("upscaler_compact_x4", on: devices[0])
    let colours = try picture(12, 10)
    let alpha = try Picture(
      width: 12, height: 10, pixels: (0..<120).flatMap { [UInt8](repeating: UInt8($0 * 2), count: 3) })
    var steps: [Int] = []
    let large = try upscaler(PictureLayers(picture: colours, alpha: alpha, texts: ["Author": "somebody"])) {
      steps += [$0, $1]
    }
    #expect(steps == [1, 2, 2, 2])
    #expect(try large.picture == upscaler(colours))
    #expect(large.texts == ["Author": "somebody"])
    let grey = try upscaler(alpha).pixels
    let means = stride(from: 0, to: grey.count, by: 3).map { start in
      Double(grey[start..<start + 3].reduce(0) { $0 + Int($1) }) / 3
    }
    let got = try #require(large.alpha).pixels
    #expect(got.count == grey.count)
    for (index, mean) in means.enumerated() {
      #expect(abs(Double(got[index * 3]) - mean) <= 0.5)
    }
  }
}

/// Some of another source's tensors.
private final class Some: WeightSource {
  private let source: any WeightSource
  let names: [String]
  var description: String { source.description }

  init(of source: any WeightSource, where isKept: (String) -> Bool) {
    self.source = source
    names = source.names.filter(isKept)
  }

  func spec(of name: String) -> TensorSpec? { names.contains(name) ? source.spec(of: name) : nil }
  func load(_ name: String, on device: Device) throws -> Tensor { try source.load(name, on: device) }
}
