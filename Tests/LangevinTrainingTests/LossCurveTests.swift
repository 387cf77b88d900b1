import Foundation
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTestSupport
import LangevinTraining
import Testing

@testable import Langevin

/// The golden runs of make_training.py: 200 steps of AdamW on tiny models.
private struct GoldenRun {
  struct Description: Decodable {
    let folder: String
    let after: Int
    let rates: [Float]
    let betas: [Float]
    let epsilon: Float
    let weightDecay: Float
    let maxNorm: Float
    let loss: [Double]
    let float32: [Double]
    let norm: [Double]
    let undetermined: Set<String>
  }

  static let fixtures = Fixtures.url
  let description: Description
  let file: SafetensorsFile

  init(_ name: String) throws {
    let url = Self.fixtures.appending(path: "training/\(name)")
    description = try JSONDecoder().decode(
      Description.self, from: Data(contentsOf: url.appendingPathExtension("json")))
    file = try SafetensorsFile(url: url.appendingPathExtension("safetensors"))
  }

  func integers(_ name: String, _ step: Int, on device: Device) throws -> [Int32] {
    try file.load(name, on: device).rows(step..<step + 1).int32s()
  }

  func floats(_ name: String, _ step: Int, on device: Device) throws -> [Float] {
    try file.load(name, on: device).rows(step..<step + 1).floats()
  }

  /// Rows of a tensor, pictures channels last.
  func gathered(_ name: String, _ rows: [Int32], on device: Device) throws -> Tensor {
    let all = try file.load(name, on: device)
    let picked = try Tensor.concatenated(rows.map { try all.rows(Int($0)..<Int($0) + 1) }, axis: 0)
    return picked.shape.rank == 4 ? try picked.transposed([0, 2, 3, 1]) : picked
  }
}

/// One step of the golden run is one sample of this task.
private struct GoldenTask: TrainingTask {
  let name: String
  let golden: GoldenRun
  let device: Device
  let networks: [TrainedNetwork]
  var isMeanOfSamples: Bool { false }

  init(_ name: String, on device: Device) throws {
    (self.name, self.device) = (name, device)
    golden = try GoldenRun(name)
    let folder = GoldenRun.fixtures.appending(path: golden.description.folder)
    let component = try ModelFolder.component(name == "clip" ? folder : folder.appending(path: "unet"))
    let config = try component.configuration
    var start = component.weights
    var isTrained: @Sendable (String) -> Bool = { _ in true }
    if name == "lora" {
      let file = GoldenRun.fixtures.appending(path: "lora/pytorch_lora_weights.safetensors")
      start = AdaptedWeights(
        component.weights, adapters: try SafetensorsFile(url: file), prefix: "unet.", alpha: 8)
      isTrained = { $0.hasSuffix("lora_A.weight") || $0.hasSuffix("lora_B.weight") }
    }
    networks = [
      TrainedNetwork("model", start: start, isTrained: isTrained) { weights in
        switch name {
        case "clip": _ = try CLIPModel(CLIPConfig(config), weights)
        case "ddpm": _ = try UNet2DModel(UNet2DConfig(config), weights)
        default: _ = try UNet2DConditionModel(UNet2DConditionConfig(config), weights)
        }
      }
    ]
    self.config = config
  }

  private let config: ConfigObject

  func batch(_ samples: Range<UInt64>) -> Int { Int(samples.lowerBound) }

  func loss(_ step: Int, _ weights: TrainingWeights) throws -> Tensor {
    let index = try golden.integers("index", step, on: device)
    if name == "clip" {
      let clip = try CLIPModel(CLIPConfig(config), weights["model"])
      let ids = try golden.file.load("ids", on: device)
      let rows = try index.map { try ids.rows(Int($0)..<Int($0) + 1).int32s() }
      return try contrastiveLoss(
        clip.imageEmbeds(golden.gathered("pictures", index, on: device)), clip.textEmbeds(rows),
        logScale: clip.logScale)
    }
    let times = try golden.integers("timesteps", step, on: device)
    let (signal, deviation) = (
      try golden.floats("signal", step, on: device), try golden.floats("deviation", step, on: device)
    )
    let levels = BatchLevels(
      times.indices.map {
        NoiseLevel(timestep: Float(times[$0]), alpha: Double(signal[$0]), sigma: Double(deviation[$0]))
      })
    let noise = try golden.gathered("noises", golden.integers("noiseIndex", step, on: device), on: device)
    if name == "ddpm" {
      let clean = try golden.gathered("pictures", index, on: device)
      let unet = try UNet2DModel(UNet2DConfig(config), weights["model"])
      let output = try unet(levels.noisy(clean, noise), timesteps: levels.timesteps)
      return try levels.loss(output, levels.target(.epsilon, clean, noise), .none, .epsilon)
    }
    let clean = try golden.gathered("latents", index, on: device)
    let context = try golden.gathered(
      "context", golden.integers("contextIndex", step, on: device), on: device)
    let unet = try UNet2DConditionModel(UNet2DConditionConfig(config), weights["model"])
    let output = try unet(levels.noisy(clean, noise), timesteps: levels.timesteps, context: context)
    return try levels.loss(output, levels.target(.v, clean, noise), .minSNR(gamma: 5), .v)
  }
}

@Suite struct LossCurveTests {
  @Test(arguments: ["clip", "ddpm", "latent", "lora"], devices) func twoHundredStepsArePyTorchs(
    name: String, on device: Device
  ) throws {
    let task = try GoldenTask(name, on: device)
    let golden = task.golden.description
    var settings = TrainerSettings(batch: 1, rate: LearningRate(base: 1, total: 200))
    (settings.beta1, settings.beta2) = (golden.betas[0], golden.betas[1])
    (settings.epsilon, settings.weightDecay) = (golden.epsilon, golden.weightDecay)
    settings.maxGradientNorm = golden.maxNorm
    var trainer = try Trainer(task, settings, on: device)

    let float32 = zip(golden.float32, golden.loss).map { abs($0 - $1) / $1 }.max() ?? 0
    var worst = 0.0
    for (step, rate) in golden.rates.enumerated() {
      let report = try trainer.step(rate: rate)
      worst = max(worst, abs(Double(report.loss) - golden.loss[step]) / golden.loss[step])
      if step == 0 {
        #expect(abs(Double(report.gradientNorm) - golden.norm[0]) < 1e-4 * golden.norm[0])
      }
      if step + 1 == golden.after { try compareParameters(trainer.parameters, task) }
    }
    // Three times PyTorch's own distance, and what a float32 loss cannot say anyway.
    #expect(worst <= 3 * float32 + 1e-5, "off by \(worst), PyTorch's float32 by \(float32)")
  }

  private func compareParameters(_ parameters: TrainedParameters, _ task: GoldenTask) throws {
    for entry in parameters.entries where !task.golden.description.undetermined.contains(entry.name) {
      let expected = try task.golden.file.load("after.\(entry.name)", on: task.device).floats()
      let values = try entry.value.floats()
      let largest = values.map(abs).max() ?? 0
      for (place, number) in expected.enumerated() {
        let error = abs(values[place * values.count / expected.count] - number)
        #expect(error <= 1e-3 * largest, "\(entry.name) after \(task.golden.description.after) steps")
      }
    }
  }
}
