import Foundation
import Langevin
import LangevinCPU
import LangevinDiffusion
import LangevinJSON
import LangevinNN
import LangevinTensor
import LangevinTraining
import Synchronization
import Testing

@testable import LangevinModels

/// Blocks that a backward pass computes once more, as `Weights.recomputes` asks for.
@Suite struct RecomputationTests {
  enum Network: String, CaseIterable { case unet, pixels, autoencoder, clip, prior }

  private func component(_ folder: String) throws -> (source: any WeightSource, config: ConfigObject) {
    let url = Fixture.root.appending(path: folder)
    let config = try StrictJSON(parsing: [UInt8](Data(contentsOf: url.appending(path: "config.json"))))
    return (InitialWeights(seed: 1), try ConfigObject(config))
  }

  /// The network's output for a batch of its own, with weights from nothing.
  private func output(_ network: Network, _ config: ConfigObject, _ weights: Weights) throws -> Tensor {
    func noise(_ shape: Shape, _ stream: UInt32) throws -> Tensor {
      try .normal(shape, seed: 3, stream: stream, on: weights.device)
    }
    let times: [Float] = [3, 40, 500, 900]
    switch network {
    case .unet:
      let model = try UNet2DConditionModel(UNet2DConditionConfig(config), weights)
      return try model(
        noise([4, 16, 16, model.config.inChannels], 0), timesteps: times,
        context: noise([4, 8, model.config.crossAttentionChannels[0]], 1))
    case .pixels:
      let model = try UNet2DModel(UNet2DConfig(config), weights)
      return try model(noise([4, 16, 16, model.config.inChannels], 0), timesteps: times)
    case .autoencoder:
      let model = try AutoencoderKL(AutoencoderKLConfig(config), weights)
      return try model.decode(model.encode(noise([4, 32, 32, 3], 0)).mean)
    case .clip:
      let model = try CLIPModel(CLIPConfig(config), weights)
      let size = model.config.vision.imageSize
      let ids: [[Int32]] = (0..<32).map { row in (0..<16).map { row * 5 + $0 } + [2387] }
      let pictures = try model.imageEmbeds(noise([32, size, size, 3], 0))
      // So that the temperature has its part in it.
      return try pictures * model.textEmbeds(ids) * model.logScale.reshaped([1])
    case .prior:
      let model = try PriorTransformer(PriorTransformerConfig(config), weights)
      let width = model.config.embeddingChannels
      return try model.deviation.reshaped([width])
        * model(
          noise([4, width], 0), timesteps: times, embedding: noise([4, width], 1),
          text: noise([4, model.config.embeddingCount, width], 2)) + model.mean
    }
  }

  private static let folders: [Network: String] = [
    .unet: "tiny-sd/unet", .pixels: "tiny-ddpm/unet", .autoencoder: "vae", .clip: "tiny-clip",
    .prior: "tiny-unclip/prior",
  ]

  private func gradients(_ network: Network, on device: Device, recomputing: Bool) throws -> (
    names: [String], tensors: [Tensor]
  ) {
    let (source, config) = try component(try #require(Self.folders[network]))
    let tape = Tape()
    let watched = WatchedWeights(source, by: tape)
    var weights = Weights(watched, on: device)
    weights.recomputes = recomputing
    let y = try output(network, config, weights)
    let loss = try y.map(.square).reduced(.mean, axes: Array(0..<y.shape.rank)).reshaped([1])
    let names = watched.parameters.keys.sorted()
    let found = try tape.gradients(of: loss, at: names.compactMap { watched.parameters[$0] })
    return (names, try found.map { try #require($0) })
  }

  @Test(arguments: Network.allCases, devices) func gradientsKeepTheirBits(
    _ network: Network, on device: Device
  )
    throws
  {
    let (names, kept) = try gradients(network, on: device, recomputing: false)
    let again = try gradients(network, on: device, recomputing: true).tensors
    #expect(try kept.contains { try $0.floats().contains { $0 != 0 } })
    for (name, (a, b)) in zip(names, zip(kept, again)) {
      #expect(try a.floats().map(\.bitPattern) == b.floats().map(\.bitPattern), "\(name)")
    }
  }

  @Test(arguments: Network.allCases) func thePeakFalls(_ network: Network) throws {
    let peaks = try [false, true].map { recomputing in
      let backend = CountingBackend(CPUBackend())
      _ = try gradients(network, on: Device(backend), recomputing: recomputing)
      return backend.peak
    }
    #expect(peaks[1] < peaks[0], "\(network): \(peaks[1]) of \(peaks[0]) bytes")
    // Where activations, and not parameters, are what is kept.
    if [.unet, .pixels, .autoencoder].contains(network) {
      #expect(Double(peaks[1]) < 0.8 * Double(peaks[0]), "\(network): \(peaks[1]) of \(peaks[0]) bytes")
    }
  }

  @Test func withoutATapeEverythingIsComputedOnce() throws {
    let device = Device(CPUBackend())
    let calls = try [false, true].map { recomputing in
      let (source, config) = try component("tiny-sd/unet")
      var weights = Weights(source, on: device)
      weights.recomputes = recomputing
      let count = Count()
      device.observe { _ in count.add() }
      defer { device.observe(nil) }
      _ = try output(.unet, config, weights)
      return count.value
    }
    #expect(calls[0] == calls[1] && calls[0] > 0)
  }
}

private final class Count: Sendable {
  private let count = Mutex(0)
  func add() { count.withLock { $0 += 1 } }
  var value: Int { count.withLock { $0 } }
}
