import Foundation
import LangevinTensor
import LangevinTestSupport
import LangevinTraining
import Testing

@testable import Langevin

/// Pictures of waves, in memory.
private struct Waves: TrainingData {
  let pictures: [CaptionedPicture]

  init(_ count: Int) {
    pictures = (0..<count).map {
      CaptionedPicture(name: "\($0)", byteCount: 768, captions: [Caption("wave number \($0)")])
    }
  }

  func picture(_ index: Int) throws -> Picture {
    let pixels = (0..<768).map { place in
      let (x, y, channel) = (Double(place / 3 % 16), Double(place / 48), Double(place % 3))
      return UInt8(127.5 + 127 * sin(x * Double(index + 1) / 7 + y * channel / 9))
    }
    return try Picture(width: 16, height: 16, pixels: pixels)
  }
}

/// Steps of `DiffusionTask` on tiny models.
@Suite struct DiffusionStepTests {
  private static let fixtures = Fixtures.url

  private static let models = ["tiny-ddpm", "tiny-sd"]

  private func trainer(
    _ model: String, on device: Device, batch: Int, _ change: (inout TrainingSettings) -> Void = { _ in }
  ) throws -> Trainer<DiffusionTask> {
    var settings = TrainingSettings()
    (settings.batch, settings.steps, settings.seed, settings.ema) = (batch, 100, 11, 0.9)
    (settings.warmUp, settings.learningRate) = (5, 1e-3)
    change(&settings)
    var own = DiffusionSettings()
    own.trainTextEncoder = model == "tiny-sd"
    own.dropCaption = 0.3
    let context = TaskContext(
      settings: settings, model: Self.fixtures.appending(path: model), data: Waves(7), device: device,
      notice: { Issue.record("\($0)") })
    return try Trainer(DiffusionTask(context, own), settings.trainer(), on: device)
  }

  /// Where float32 rounds otherwise, AdamW's first steps turn a gradient of nearly nothing into a step of any size; so
  /// its smallest divisor is a share of these gradients.
  @Test(arguments: models, devices) func sixteenSamplesAreFourTimesFour(model: String, on device: Device)
    throws
  {
    var whole = try trainer(model, on: device, batch: 16) { $0.epsilon = 1e-3 }
    var parts = try trainer(model, on: device, batch: 16) { ($0.epsilon, $0.accumulation) = (1e-3, 4) }
    for step in 0..<4 {
      let (a, b) = (try whole.step(), try parts.step())
      #expect(abs(a.loss - b.loss) <= 1e-5 * a.loss, "step \(step): \(a.loss), \(b.loss)")
      #expect(abs(a.gradientNorm - b.gradientNorm) <= 1e-4 * a.gradientNorm, "step \(step)")
    }
    for (a, b) in zip(whole.parameters.entries, parts.parameters.entries) {
      for (a, b, what) in [
        (try a.value.floats(), try b.value.floats(), "\(a.fullName)"),
        (try a.average.floats(), try b.average.floats(), "the average of \(a.fullName)"),
      ] {
        let error = zip(a, b).map { abs($0 - $1) }.max() ?? 0
        #expect(error <= 1e-5, "\(what) is off by \(error)")
      }
    }
  }

  /// How far the losses of 20 steps may be from float32's, about three times what they are.
  private static let distances: [(DType, Float)] = [(.float16, 0.002), (.bfloat16, 0.006)]

  @Test(arguments: models, devices) func narrowStorageTrainsAlmostAsFloat32(
    model: String, on device: Device
  ) throws {
    var wide = try trainer(model, on: device, batch: 4)
    let expected = try (0..<20).map { _ in try wide.step().loss }
    for (precision, limit) in Self.distances {
      var narrow = try trainer(model, on: device, batch: 4) {
        $0.precision = precision == .float16 ? "f16" : "bf16"
      }
      let losses = try (0..<20).map { _ in try narrow.step().loss }
      let worst = zip(losses, expected).map { abs($0 - $1) / $1 }.max() ?? .infinity
      #expect(worst <= limit, "\(precision) is off by \(worst)")
      #expect(worst > 0)
      #expect(narrow.lossScale == (precision == .float16 ? 0x1p15 : 1))
    }
  }

  @Test(arguments: models, devices) func aHealthyStepPassesWithEveryOperationLookedAt(
    model: String, on device: Device
  ) throws {
    let device = Device(device.backend)
    var trainer = try trainer(model, on: device, batch: 2)
    device.audit = true
    for _ in 0..<2 { try trainer.step() }
    #expect(trainer.completedSteps == 2)
  }

  @Test(arguments: devices) func aStepTooFarIsToldWithLayerAndDirection(device: Device) throws {
    var trainer = try trainer("tiny-ddpm", on: Device(device.backend), batch: 2) { $0.warmUp = 0 }
    let error = #expect(throws: TrainingError.self) {
      for _ in 0..<20 { try trainer.step(rate: 1e30) }
    }
    let text = try #require(error).description
    let pattern =
      /step \d+: the (loss is NaN|loss is infinite|gradient is not finite); first in the (forward|backward) pass, at unet\.[a-z0-9_.]+: .+/
    #expect(try pattern.wholeMatch(in: text) != nil, "\(text)")
  }
}
