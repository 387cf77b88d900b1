import Foundation
import LangevinDiffusion
import LangevinTensor
import Testing

@Suite struct ScheduleTests {
  static func parse(_ json: String) throws -> NoiseSchedule { try NoiseSchedule(json: Data(json.utf8)) }

  @Test func absentAndNullFieldsTakeDefaults() throws {
    #expect(try Self.parse("{}") == NoiseSchedule())
    #expect(
      try Self.parse(#"{"beta_start": null, "timestep_spacing": null, "trained_betas": null}"#)
        == NoiseSchedule())
    let parsed = try Self.parse(
      #"{"prediction_type": "v_prediction", "lambda_min_clipped": -Infinity, "note": "-Infinity \" NaN"}"#)
    #expect(parsed.prediction == .v && parsed.lambdaMinClipped == -.infinity)
  }

  @Test func badFilesNameTheField() throws {
    let bad = [
      (#"{"beta_schedule": "sigmoid"}"#, "beta_schedule"), (#"{"steps_offset": "one"}"#, "steps_offset"),
      (#"{"prediction_type": "score"}"#, "prediction_type"),
      (#"{"timestep_spacing": "karras"}"#, "timestep_spacing"), (#"{"#, "the file"),
    ]
    for (json, field) in bad {
      do {
        _ = try Self.parse(json)
        Issue.record("\(json) was accepted")
      } catch DiffusionError.configuration(let named, let reason) {
        #expect(named == field && !reason.isEmpty)
      }
    }
    #expect(throws: DiffusionError.unknownScheduler(name: "FlowMatchEulerDiscreteScheduler")) {
      _ = try Self.parse(#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#)
    }
  }

  @Test func badNoiseIsRefused() throws {
    for json in [
      #"{"num_train_timesteps": 0}"#, #"{"num_train_timesteps": 1000000000000}"#,
      #"{"trained_betas": [0.1, 0.2]}"#, #"{"beta_end": 1.5}"#,
      #"{"num_train_timesteps": 2, "trained_betas": [0.1, -0.2]}"#,
    ] {
      for sampler in Sampler.allCases {
        #expect(throws: DiffusionError.self) { _ = try sampler.schedule(Self.parse(json), steps: 1) }
      }
    }
  }

  /// What a sampler's class in diffusers reads and nothing here implements is an error; the rest is not.
  @Test func unsupportedSettingsAreRefusedWhereTheyAreRead() throws {
    let expected: [(String, Set<Sampler>)] = [
      (#"{"thresholding": true}"#, [.ddpm, .ddim, .dpmpp2M, .dpmpp2MKarras]),
      (#"{"variance_type": "learned_range"}"#, [.ddpm, .dpmpp2M, .dpmpp2MKarras]),
      (#"{"interpolation_type": "log_linear"}"#, [.euler]), (#"{"timestep_type": "continuous"}"#, [.euler]),
      (#"{"use_beta_sigmas": true}"#, [.euler, .dpmpp2M, .dpmpp2MKarras]),
      (#"{"use_flow_sigmas": true}"#, [.dpmpp2M, .dpmpp2MKarras]),
    ]
    for (json, refusing) in expected {
      let config = try Self.parse(json)
      for sampler in Sampler.allCases {
        if refusing.contains(sampler) {
          #expect(throws: DiffusionError.self) { _ = try sampler.schedule(config, steps: 5) }
        } else {
          #expect(try sampler.schedule(config, steps: 5).steps.count == 5)
        }
      }
    }
  }

  @Test func impossibleStepCountsThrow() throws {
    let config = NoiseSchedule().forStableDiffusion()
    for sampler in Sampler.allCases {
      for steps in [0, -3] {
        #expect(throws: DiffusionError.self) { _ = try sampler.schedule(config, steps: steps) }
      }
      if sampler != .dpmpp2MKarras {
        #expect(throws: DiffusionError.self) { _ = try sampler.schedule(config, steps: 1001) }
      }
    }
    // 1000 leading steps from an offset of 1 would begin at timestep 1000, which does not exist.
    #expect(throws: DiffusionError.self) { _ = try Sampler.ddim.schedule(config, steps: 1000) }
    // 1001 points on 1000 timesteps: two are the same.
    #expect(throws: DiffusionError.self) { _ = try Sampler.dpmpp2M.schedule(config, steps: 1000) }
  }

  @Test func everyStepCountGivesAFallingSchedule() throws {
    var config = NoiseSchedule().forStableDiffusion()
    for spacing in NoiseSchedule.Spacing.allCases {
      config.timestepSpacing = spacing
      for sampler in Sampler.allCases {
        for steps in 1...60 {
          let schedule = try sampler.schedule(config, steps: steps)
          #expect(schedule.steps.count == steps)
          let levels = schedule.steps.map(\.from.noiseToSignal)
          #expect(zip(levels, levels.dropFirst()).allSatisfy { $0 > $1 })
        }
      }
    }
  }

  @Test func strengthTakesTheLastSteps() throws {
    let schedule = try Sampler.ddim.schedule(NoiseSchedule().forStableDiffusion(), steps: 30)
    for (strength, kept) in [(1.0, 30), (0.7, 21), (0.99, 29), (0.5, 15), (0.034, 1)] {
      let part = try schedule.starting(at: strength)
      #expect(part.steps == Array(schedule.steps.suffix(kept)))
      #expect(part.skipped == 30 - kept && part.fullCount == 30)
    }
    for strength in [-0.1, 0, 0.03, 1.01, .nan] {
      #expect(throws: DiffusionError.self) { _ = try schedule.starting(at: strength) }
    }
  }

  @Test func epsilonFromPureNoiseThrows() throws {
    let x = try Tensor([1] as [Float], [1, 1], on: cpu)
    #expect(throws: DiffusionError.noSignal(timestep: 999)) {
      _ = try NetworkDenoiser(.epsilon) { x, _ in x }
        .denoised(x, at: NoiseLevel(timestep: 999, alpha: 0, sigma: 1))
    }
  }

  @Test func clippedStaysInRange() throws {
    let x = try Tensor([-3, -0.2, 0.2, 3], [1, 4], on: cpu)
    let denoiser = Clipped(NetworkDenoiser(.sample) { x, _ in x }, limit: 0.5)
    let level = NoiseLevel(timestep: 0, noiseToSignal: 1)
    #expect(try denoiser.denoised(x, at: level).floats() == [-0.5, -0.2, 0.2, 0.5])
  }
}
