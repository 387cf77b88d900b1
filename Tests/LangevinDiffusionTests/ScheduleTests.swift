import Foundation
import LangevinDiffusion
import LangevinJSON
import LangevinTensor
import Testing

@Suite struct ScheduleTests {
  static func parse(_ json: String) throws -> SchedulerFile { try SchedulerFile(json: Data(json.utf8)) }

  static func schedule(
    _ sampler: SamplerChoice, _ file: SchedulerFile, steps: Int, _ choice: NoiseSchedule.Levels? = nil
  ) throws -> Schedule {
    try sampler.make(file).schedule(file.noise, steps: steps, choosing: choice)
  }

  @Test func absentAndNullFieldsTakeDefaults() throws {
    #expect(try Self.parse("{}") == SchedulerFile())
    #expect(
      try Self.parse(#"{"beta_start": null, "timestep_spacing": null, "trained_betas": null}"#)
        == SchedulerFile())
    let parsed = try Self.parse(
      #"{"prediction_type": "v_prediction", "lambda_min_clipped": -Infinity, "note": "-Infinity \" NaN"}"#)
    #expect(parsed.noise.prediction == .v)
    #expect(try DPMpp2MSampler(parsed).settings.lambdaMin == -.infinity)
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
    #expect(throws: DiffusionError.unknownScheduler(name: "SCMScheduler")) {
      _ = try Self.parse(#"{"_class_name": "SCMScheduler"}"#)
    }
  }

  @Test func badNoiseIsRefused() throws {
    for json in [
      #"{"num_train_timesteps": 0}"#, #"{"num_train_timesteps": 1000000000000}"#,
      #"{"trained_betas": [0.1, 0.2]}"#, #"{"beta_end": 1.5}"#,
      #"{"num_train_timesteps": 2, "trained_betas": [0.1, -0.2]}"#,
    ] {
      for sampler in SamplerRegistry.all {
        #expect(throws: DiffusionError.self) { _ = try Self.schedule(sampler, Self.parse(json), steps: 1) }
      }
    }
  }

  /// Fields whose numbers have a range, each just outside of it and absurdly so.
  @Test(arguments: [
    ("dynamic_thresholding_ratio", ["-0.001", "1.001", "1e300", "-1e300", "NaN", "Infinity"]),
    ("clip_sample_range", ["0", "-1", "-Infinity", "Infinity", "NaN", "1e10"]),
    ("sample_max_value", ["0", "-1", "0.5", "NaN", "Infinity", "1e300"]),
    ("num_train_timesteps", ["0", "-1", "1000001", "9223372036854775807"]),
    ("beta_start", ["-0.1", "NaN", "1.5"]), ("beta_end", ["-0.1", "NaN", "1.5"]),
    ("steps_offset", ["-1", "1000001", "9223372036854775807"]),
    ("sigma_min", ["0", "-1", "NaN", "Infinity"]), ("sigma_max", ["0", "-1", "NaN", "Infinity"]),
    ("lambda_min_clipped", ["1", "NaN", "Infinity"]),
    ("original_inference_steps", ["0", "-50", "9223372036854775807"]),
    ("timestep_scaling", ["0", "-1", "NaN", "1e300"]), ("shift", ["0", "-3", "NaN", "Infinity"]),
    ("flow_shift", ["0", "-3", "NaN", "Infinity"]),
  ])
  func numbersOutOfRangeAreNamedWhereTheyAreRead(field: String, values: [String]) throws {
    for value in values {
      let error = #expect(throws: DiffusionError.self, "\(field) = \(value)") {
        try Self.parse("{\"\(field)\": \(value)}")
      }
      guard case .configuration(let named, let reason)? = error else {
        Issue.record("\(field) = \(value): \(String(describing: error))")
        continue
      }
      #expect(named == field || field == "flow_shift" && named == "shift")
      #expect(reason.contains("not") && reason.count < 80, "\(reason)")
    }
  }

  @Test func numbersAtTheEndsOfTheirRangesAreTaken() throws {
    let config = try Self.parse(
      #"""
      {"dynamic_thresholding_ratio": 1, "sample_max_value": 1, "clip_sample_range": 1e-3, "beta_start": 1e-6,
       "beta_end": 0.02, "steps_offset": 0, "lambda_min_clipped": -Infinity, "timestep_scaling": 10, "thresholding": true}
      """#)
    #expect(try DDIMSampler(config).limit == .dynamic(quantile: 1, maximum: 1))
    #expect(try UnCLIPSampler(config).limit == .clip(1e-3))
    #expect(try Self.schedule(.ddim, config, steps: 5).steps.count == 5)
    let zero = try Self.parse(#"{"dynamic_thresholding_ratio": 0, "thresholding": true}"#)
    #expect(try DDIMSampler(zero).limit == .dynamic(quantile: 0, maximum: 1))
  }

  /// A library's own settings never went through a file.
  @Test func aSamplerChecksWhatItIsHanded() throws {
    let noise = NoiseSchedule()
    func refused(_ sampler: some Sampler, sourceLocation: SourceLocation = #_sourceLocation) {
      #expect(throws: DiffusionError.self, sourceLocation: sourceLocation) {
        try sampler.schedule(noise, steps: 5)
      }
    }
    refused(DDIMSampler(limit: .dynamic(quantile: 3, maximum: 1)))
    refused(DDPMSampler(limit: .clip(-1)))
    refused(LCMSampler(timestepScaling: -1))
    refused(TCDSampler(eta: 1.5))
    var distilled = TCDSampler()
    distilled.originalSteps = 1001
    refused(distilled)
    distilled.originalSteps = 4
    refused(distilled)
    refused(UniPCSampler(order: 4))
    var (euler, dpm, ddim) = (EulerSampler(), DPMpp2MSampler(), DDIMSampler())
    euler.sigmas.minimum = -1
    dpm.settings.lambdaMin = 1
    ddim.timesteps.offset = -1
    refused(euler)
    refused(dpm)
    refused(ddim)
    #expect(try EulerSampler().schedule(noise, steps: 5).steps.count == 5)
  }

  static let strangersToFlows = Set(SamplerRegistry.all.filter { !$0.followsFlows })
  static let multistep: Set<SamplerChoice> = [.dpmpp2M, .dpmpp2MSDE, .uniPC]

  /// What a sampler's class in diffusers reads and nothing here implements is an error; the rest is not.
  @Test func unsupportedSettingsAreRefusedWhereTheyAreRead() throws {
    let expected: [(String, Set<SamplerChoice>)] = [
      (#"{"variance_type": "learned"}"#, [.ddpm, .unCLIP]),
      (#"{"interpolation_type": "log_linear"}"#, [.euler]), (#"{"timestep_type": "continuous"}"#, [.euler]),
      (#"{"use_lu_lambdas": true}"#, [.dpmpp2M, .dpmpp2MKarras, .dpmpp2MSDE]),
      (#"{"solver_p": {"a": 1}}"#, [.uniPC]), (#"{"solver_p": null}"#, []),
      (#"{"solver_order": 4}"#, [.uniPC]),
      (#"{"predict_x0": false}"#, [.uniPC]), (#"{"rescale_betas_zero_snr": true}"#, [.pndm]),
      (#"{"use_karras_sigmas": true, "final_sigmas_type": "sigma_min"}"#, [.uniPC]),
      (#"{"use_flow_sigmas": true}"#, Self.strangersToFlows),
      (#"{"use_flow_sigmas": true, "use_beta_sigmas": true}"#, Self.strangersToFlows.union(Self.multistep)),
      (
        #"{"use_flow_sigmas": true, "final_sigmas_type": "sigma_min"}"#,
        Self.strangersToFlows.union(Self.multistep)
      ),
      (#"{"prediction_type": "flow_prediction"}"#, Set(SamplerRegistry.all)),
      (
        #"{"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true}"#,
        Set(SamplerRegistry.all)
      ),
      (
        #"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": 0.1}"#,
        Set(SamplerRegistry.all)
      ),
    ]
    for (json, refusing) in expected {
      let config = try Self.parse(json)
      for sampler in SamplerRegistry.all {
        if refusing.contains(sampler) {
          #expect(throws: DiffusionError.self) { _ = try Self.schedule(sampler, config, steps: 5) }
        } else {
          #expect(try Self.schedule(sampler, config, steps: 5).steps.count == 5)
        }
      }
    }
  }

  @Test func impossibleStepCountsThrow() throws {
    let config = SchedulerFile().forStableDiffusion()
    for sampler in SamplerRegistry.all {
      for steps in [0, -3] {
        #expect(throws: DiffusionError.self) { _ = try Self.schedule(sampler, config, steps: steps) }
      }
      if sampler != .dpmpp2MKarras {  // whose sigmas never meet
        #expect(throws: DiffusionError.self) { _ = try Self.schedule(sampler, config, steps: 1001) }
      }
    }
    // 1000 leading steps from an offset of 1 would begin at timestep 1000, which does not exist.
    #expect(throws: DiffusionError.self) { _ = try Self.schedule(.ddim, config, steps: 1000) }
    // 1001 points on 1000 timesteps: two are the same.
    #expect(throws: DiffusionError.self) { _ = try Self.schedule(.dpmpp2M, config, steps: 1000) }
  }

  @Test func everyStepCountGivesAFallingSchedule() throws {
    for spacing in NoiseSchedule.Spacing.allCases {
      let config = SchedulerFile().forStableDiffusion().setting([
        "timestep_spacing": .string(spacing.rawValue)
      ])
      for sampler in SamplerRegistry.all {
        // LCM's and TCD's models were distilled from 50 steps, unCLIP's stride needs two and PNDM's beginning four.
        let counts =
          switch sampler {
          case .lcm, .tcd: 1...50
          case .unCLIP: 2...60
          case .pndm: 4...60
          default: 1...60
          }
        for steps in counts {
          let schedule = try Self.schedule(sampler, config, steps: steps)
          #expect(schedule.steps.count == steps)
          let levels = schedule.steps.map(\.from.noiseToSignal)
          #expect(zip(levels, levels.dropFirst()).allSatisfy { $0 > $1 })
        }
      }
    }
  }

  @Test func strengthTakesTheLastSteps() throws {
    let schedule = try Self.schedule(.ddim, SchedulerFile().forStableDiffusion(), steps: 30)
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

  @Test func limitedStaysInRange() throws {
    let x = try Tensor([-3, -0.2, 0.2, 3], [1, 4], on: cpu)
    let denoiser = Limited(NetworkDenoiser(.sample) { x, _ in x }, .clip(0.5))
    let level = NoiseLevel(timestep: 0, noiseToSignal: 1)
    #expect(try denoiser.denoised(x, at: level).floats() == [-0.5, -0.2, 0.2, 0.5])
  }

  /// The file's own class says how it is sampled, and has its own defaults.
  @Test func classesHaveSamplersAndDefaults() throws {
    let expected: [(String, SamplerChoice?)] = [
      ("PNDMScheduler", .pndm), ("UnCLIPScheduler", .unCLIP), ("UniPCMultistepScheduler", .uniPC),
      ("LCMScheduler", .lcm), ("TCDScheduler", .tcd), ("FlowMatchHeunDiscreteScheduler", .heun),
      ("DEISMultistepScheduler", nil),
    ]
    for (name, sampler) in expected {
      #expect(try Self.parse(#"{"_class_name": "\#(name)"}"#).sampler == sampler)
    }
    let sde = try Self.parse(
      #"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}"#)
    #expect(sde.sampler == .dpmpp2MSDE)
    #expect(try Self.parse(#"{"_class_name": "UnCLIPScheduler"}"#).noise.betaSchedule == .squaredCosine)
    #expect(try Self.parse(#"{"_class_name": "LCMScheduler"}"#).noise.betaEnd == 0.012)
    let flow = try Self.parse(#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3}"#)
    #expect(flow.noise.path == .flow && flow.noise.prediction == .flow && flow.noise.flowShift == 3)
    #expect(flow.sampler == .euler)
    #expect(throws: DiffusionError.self) {
      _ = try Self.parse(#"{"use_karras_sigmas": true, "use_beta_sigmas": true}"#)
    }
  }

  /// A choice of levels is taken as it is, or refused; nothing else happens.
  @Test func choicesOfLevelsAreTakenOrRefused() throws {
    let spacings = NoiseSchedule.Spacing.allCases.map { NoiseSchedule.Levels.timesteps($0) }
    let layouts = NoiseSchedule.SigmaSpacing.allCases.map { NoiseSchedule.Levels.sigmas($0) }
    let given: [NoiseSchedule.Levels] = [
      .theseTimesteps([900, 500, 20, 3]), .theseSigmas([9, 3, 1, 0.2]), .theseSigmas([9, 3, 1, 0.2, 0]),
    ]
    for path in [Schedule.Path.variancePreserving, .flow] {
      var config = SchedulerFile(NoiseSchedule(), ["skip_prk_steps": .bool(true)])
      (config.noise.path, config.noise.prediction) = (path, path == .flow ? .flow : .epsilon)
      for sampler in SamplerRegistry.all where path != .flow || sampler.followsFlows {
        for levels in spacings + layouts + given {
          let name =
            switch levels {
            case .timesteps(let spacing): spacing.rawValue
            case .sigmas(let spacing): spacing.rawValue
            case .theseTimesteps: "timesteps"
            case .theseSigmas: "sigmas"
            }
          var fits = sampler.spacings.contains(name)
          if path == .flow {
            // A flow's spacing is its shift; its sigmas end at 1; multistep solvers have no layouts but one.
            switch levels {
            case .timesteps, .theseSigmas: fits = false
            case .sigmas(.karras): fits = fits && (sampler == .uniPC || !Self.multistep.contains(sampler))
            case .sigmas: fits = fits && !Self.multistep.contains(sampler)
            case .theseTimesteps: break
            }
          }
          if fits {
            let schedule = try Self.schedule(sampler, config, steps: 4, levels)
            #expect(schedule.steps.count == 4 && schedule.path == path, "\(sampler.name) \(levels)")
            if case .theseTimesteps(let times) = levels {
              #expect(schedule.steps.map { Int($0.from.timestep) } == times)
            }
            if case .theseSigmas = levels {
              for (step, sigma) in zip(schedule.steps, [9, 3, 1, 0.2]) {
                #expect(abs(step.from.noiseToSignal / sigma - 1) < 1e-6)
              }
            }
          } else {
            #expect(throws: DiffusionError.self, "\(sampler.name) \(levels)") {
              _ = try Self.schedule(sampler, config, steps: 4, levels)
            }
          }
        }
      }
    }
  }

  @Test func badChoicesOfLevelsThrow() throws {
    let bad: [(NoiseSchedule.Levels, Int)] = [
      (.theseSigmas([1, 2]), 2), (.theseSigmas([]), 0), (.theseSigmas([0]), 0), (.theseSigmas([3, -1]), 2),
      (.theseSigmas([3, .nan]), 2), (.theseSigmas([3, 3]), 2), (.theseSigmas([3, 1]), 3),
      (.theseTimesteps([1000, 2]), 2), (.theseTimesteps([5, 5]), 2), (.theseTimesteps([5, -1]), 2),
      (.theseTimesteps([]), 0), (.theseTimesteps([9, 4]), 1),
    ]
    for sampler in [SamplerChoice.euler, .dpmpp2M, .uniPC, .ddpm] {
      for (levels, steps) in bad {
        #expect(throws: DiffusionError.self, "\(sampler.name) \(levels)") {
          _ = try Self.schedule(sampler, SchedulerFile(), steps: steps, levels)
        }
      }
    }
  }

  /// arXiv:2205.11487, section 2.3, by hand.
  @Test func dynamicThresholdsArePerImage() throws {
    let x = try Tensor([-4, 1, 0, 2, 0.5, -0.25, 0.1, 0] as [Float], [2, 2, 2], on: cpu)
    // Of 0, 1, 2, 4 the quantile 0.75 is 2.5; the second image stays as it is.
    let limited = try Limit.dynamic(quantile: 0.75, maximum: 10)(x).floats()
    #expect(largestDifference(limited, [-1, 0.4, 0, 0.8, 0.5, -0.25, 0.1, 0]) < 1e-6)
    let capped = try Limit.dynamic(quantile: 1, maximum: 2)(x).floats()
    #expect(largestDifference(capped, [-1, 0.5, 0, 1, 0.5, -0.25, 0.1, 0]) < 1e-6)
  }

  /// The noise agrees with the network's word between beta tilde and beta, per element.
  @Test func learnedVarianceIsAskedFor() throws {
    let x = try Tensor([0.5, -1] as [Float], [1, 2], on: cpu)
    let schedule = try DDPMSampler().schedule(NoiseSchedule(), steps: 3)
    var noise = NoiseSource(.philox, seeds: [1], on: cpu)
    #expect(throws: DiffusionError.noLearnedVariance) {
      _ = try DDPMSampler(variance: .learnedRange).sample(
        NetworkDenoiser(.epsilon) { x, _ in x }, from: x, along: schedule, noise: &noise)
    }
  }

  @Test func guidanceIsWithinItsInterval() throws {
    struct Constant: Denoiser {
      var value: Float
      func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
        try x.affine(scale: 0, offset: value)
      }
    }
    let x = try Tensor([0.5] as [Float], [1, 1], on: cpu)
    let denoiser = GuidanceInterval(Constant(value: 2), outside: Constant(value: 1), interval: 0.5...4)
    for (sigma, expected) in [(0.4, 1), (0.5, 1), (0.6, 2), (4, 2), (4.1, 1)] as [(Double, Float)] {
      let level = NoiseLevel(timestep: 0, alpha: 0.5, sigma: 0.5 * sigma)
      #expect(try denoiser.denoised(x, at: level).floats() == [expected])
      #expect(try denoiser.guess(x, at: level).denoised.floats() == [expected])
    }
  }

  /// The variance's half comes from the prompt alone.
  @Test func guidanceKeepsThePromptsVariance() throws {
    let x = try Tensor([0, 0] as [Float], [1, 2], on: cpu)
    let guided = ClassifierFreeGuidance(scale: 3) { _, _ in
      try Tensor([1, 2, 7, 8, 3, 5, 9, 6] as [Float], [2, 4], on: cpu)
    }
    #expect(try guided(x, 0).floats() == [7, 11, 9, 6])
  }

  @Test func everySamplerDescribesItself() {
    for sampler in SamplerRegistry.all {
      #expect(!sampler.purpose.isEmpty && sampler.order > 0 && sampler.callsPerStep > 0)
      #expect(Set(sampler.spacings).count == sampler.spacings.count)
    }
    #expect(Set(SamplerRegistry.all.map(\.purpose)).count == SamplerRegistry.all.count)
  }
}
