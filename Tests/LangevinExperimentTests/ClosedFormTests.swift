import Foundation
import LangevinCPU
import LangevinDiffusion
import LangevinOpenCL
import LangevinTensor
import Testing

@testable import LangevinExperiment

/// The CPU backend, and every OpenCL device without help from it.
let devices: [Device] = {
  do {
    let openCL = try OpenCLDevices.all().map { Device(try OpenCLBackend(index: $0.index)) }
    return [Device(CPUBackend())] + openCL
  } catch {
    preconditionFailure("an OpenCL device does not open: \(error)")
  }
}()

/// What the experiment measures with, against what can be computed by hand.
@Suite struct ClosedFormTests {
  /// Against the same mean in double precision, in which nothing is near its limits.
  @Test(arguments: devices) func posteriorMean(device: Device) throws {
    let data = PointSet.spirals(2, count: 50)
    let weights = data.labels.map { $0 == 0 ? 0.9 : 0.1 }
    let denoiser = try PosteriorMean(data.points, weights: weights, on: device)
    // Near data, between them and so far away that every weight underflows without its maximum.
    let places =
      data.points.prefix(5).map { $0 * 0.98 } + [
        Vector(x: 0.1, y: -0.2), Vector(x: 1, y: 1), Vector(x: 30, y: -40), Vector(x: -500, y: 3),
      ]
    let x = try Tensor(places.flatMap { [Float($0.x), Float($0.y)] }, [1, places.count, 2], on: device)
    for (alpha, sigma) in [(0.0, 1.0), (0.3, 0.9), (0.9, 0.4), (0.999, 0.02), (1, 0.004)] {
      let level = NoiseLevel(timestep: 0, alpha: alpha, sigma: sigma)
      let got = try denoiser.denoised(x, at: level)
      #expect(got.shape == x.shape)
      let values = try got.floats()
      for (index, place) in places.enumerated() {
        let logs = zip(data.points, weights).map { point, weight in
          log(weight) - (place - point * alpha).squaredLength / (2 * sigma * sigma)
        }
        let top = logs.max() ?? 0
        let shares = logs.map { exp($0 - top) }
        let total = shares.reduce(0, +)
        let mean = zip(data.points, shares).reduce(Vector(x: 0, y: 0)) { $0 + $1.0 * ($1.1 / total) }
        let error = (mean - Vector(x: Double(values[2 * index]), y: Double(values[2 * index + 1]))).length
        // Far away the logarithms are of the order of (|x| / sigma)^2, and float32 keeps 6e-8 of that.
        let rounding = 6e-8 * place.squaredLength / (sigma * sigma)
        #expect(error < 1e-4 + 4 * min(rounding, 1), "\(place), alpha \(alpha), on \(device.name)")
      }
    }
  }

  /// Without a guided half, the condition is the prompt's; with one, each half has its own.
  @Test func captionedNetwork() throws {
    let data = PointSet.spirals(2, count: 20)
    let device = devices[0]
    let conditions = try (0..<2).map { try PosteriorMean(data.labelled($0), on: device) }
    let alphas: [Float] = [0.9, 0.5]
    let x = try Tensor.normal([1, 6, 2], seed: 3, on: device)
    let level = NoiseLevel(timestep: 1, alphaCumprod: 0.5)
    let expected = try conditions.flatMap { try $0.denoised(x, at: level).floats() }
    let network = CaptionedNetwork(conditions: conditions, alphasCumprod: alphas)
    #expect(try network(Tensor.concatenated([x, x], axis: 0), 1).floats() == expected)
    let guided = ClassifierFreeGuidance(scale: 3, network.callAsFunction)
    let combined = try guided(x, 1).floats()
    for (index, value) in combined.enumerated() {
      #expect(abs(value - (3 * expected[12 + index] - 2 * expected[index])) < 1e-5)
    }
  }

  @Test func spirals() {
    for count in 1...2 {
      let data = PointSet.spirals(count, count: 100)
      #expect(data.points.count == 100 * count && data.labels.count == 100 * count)
      #expect(Distances.mean(data.points).length < 1e-12)
      #expect(abs(Distances.spread(data.points) - 2.0.squareRoot()) < 1e-12)
      // Evenly spaced: neighbours are as far apart everywhere, up to the curvature.
      let arm = data.labelled(0)
      let gaps = zip(arm, arm.dropFirst()).map { ($1 - $0).length }
      #expect((gaps.max() ?? 1) / (gaps.min() ?? 0) < 1.05)
      #expect(data.nearest(to: arm[40] + Vector(x: 1e-3, y: 0)).index == 40)
    }
  }

  @Test func distances() {
    #expect(Distances.squaredWasserstein([0, 1, 5], [2, 3, 7]) == 4)
    // Half of the mass of one list against two thirds of the other's.
    #expect(abs(Distances.squaredWasserstein([0, 6], [0, 0, 6]) - 6) < 1e-12)
    #expect(abs(Distances.squaredWasserstein([1, 2, 3], [1, 1, 2, 2, 3, 3])) < 1e-12)
    // Moving a set by v moves each projection by v's, whose mean square over all directions is half of v's.
    let data = PointSet.spirals(1, count: 60).points
    let moved = data.map { $0 + Vector(x: 0.3, y: -0.4) }
    #expect(abs(Distances.slicedWasserstein(data, moved) - 0.5 / 2.0.squareRoot()) < 1e-9)
    #expect(abs(Distances.evenness((0..<240).map { Double($0) / 240 }) - 1) < 1e-9)
    #expect(abs(Distances.evenness([0.5, 0.51]) - 1.0 / 24) < 1e-9)
    #expect(abs(Distances.evenness([0.1, 0.9, 0.1, 0.9]) - 2.0 / 24) < 1e-9)
  }
}
