import Langevin
import LangevinMeasurement
import LangevinTensor
import Testing

/// One short generation with the shipped model, recorded once a device.
struct RecordedRun: Sendable, CustomTestStringConvertible {
  let device: Device
  let recording: Recording
  /// Around the generation, in seconds, by another clock than the spans'.
  let wall: Double
  var testDescription: String { device.name }

  static let steps = 3

  static let all: [RecordedRun] = openDevices().map { device in
    do {
      let pipeline = try StableDiffusion(Checkpoint.open(DefaultModel.url), on: device)
      var request = GenerationRequest(prompt: "grinning face")
      request.steps = steps
      // Kernels are built outside of the recording.
      _ = try pipeline.generate(request)
      let (result, recording) = try Recording.make(on: device) {
        let start = ContinuousClock.now
        _ = try pipeline.generate(request)
        return (ContinuousClock.now - start) / .seconds(1)
      }
      return RecordedRun(device: device, recording: recording, wall: try result.get())
    } catch {
      preconditionFailure("\(device.name): \(error)")
    }
  }

  /// Round numbers: what is tested does not depend on the machine's.
  static let ceilings = Ceilings(flops: 1e11, bandwidth: 1e10)
}
