import Benchmark
import BenchmarkDevices
import Foundation
import Langevin
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

// One guided step: the UNet on batch 2, guidance, and DDIM's update. The emoji model that ships along at its
// own size; and a Stable Diffusion of 512 x 512 pixels where LANGEVIN_SD15 names its folder, such as
// Tests/Golden/make_sd15.py writes.
let benchmarks: @Sendable () -> Void = {
  var configuration = Benchmark.defaultConfiguration
  configuration.timeUnits = .milliseconds
  configuration.warmupIterations = 1
  configuration.maxDuration = .seconds(5)
  configuration.maxIterations = 50
  let emoji = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../Sources/Langevin/Resources/emoji-diffusion").standardizedFileURL
  var models = [("emoji", emoji)]
  if let path = ProcessInfo.processInfo.environment["LANGEVIN_SD15"] {
    models.append(("sd1.5", URL(fileURLWithPath: path)))
  }
  for (name, folder) in models {
    for choice in BenchmarkDevices.all {
      measure("guided step \(name)", on: choice, configuration: configuration) { device in
        try guidedStep(folder, on: device)
      }
    }
  }
}

/// A closure that runs the first of 30 steps, with random numbers in the place of encoded prompts.
func guidedStep(_ folder: URL, on device: Device) throws -> () throws -> Void {
  let checkpoint = try Checkpoint.open(folder)
  let config = try UNet2DConditionConfig(checkpoint.unet.configuration)
  let unet = try UNet2DConditionModel(config, Weights(checkpoint.unet.weights, on: device))
  let file = try SchedulerFile(json: checkpoint.scheduler).forStableDiffusion()
  let step = try SamplerChoice.ddim.make(file).schedule(file.noise, steps: 30).steps[0]

  let context = try device.normal([2, 77, config.crossAttentionChannels[0]])
  let latent = try device.normal([1, config.sampleSize, config.sampleSize, config.inChannels], seed: 2)
  let network: Network = { x, timestep in
    try unet(x, timesteps: [Float](repeating: timestep, count: x.shape[0]), context: context)
  }
  let guided = ClassifierFreeGuidance(scale: 7.5, network)
  let denoiser = NetworkDenoiser(file.noise.prediction, { try guided($0, $1) })
  return {
    var source = NoiseSource(.philox, seeds: [1], on: device)
    _ = try DDIMSampler().sample(denoiser, from: latent, along: Schedule(steps: [step]), noise: &source)
  }
}
