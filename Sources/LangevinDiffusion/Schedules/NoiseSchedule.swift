import Foundation

/// The noise that a model was trained on and how its author wants it sampled: diffusers'
/// scheduler_config.json.
///
/// The file may come from any scheduler class of diffusers that describes noise by betas or by a flow's sigmas. A
/// sampler reads the fields that its own class in diffusers has, and takes that class's default where the file
/// has none, as `DDIMScheduler.from_config(pipeline.scheduler.config)` does. What describes the noise itself
/// (betas, `rescale_betas_zero_snr`, whether the model is a flow) every sampler reads, and the class that the
/// file names has its defaults.
///
/// A pipeline reads the file, overrides what its reference overrides (`forStableDiffusion`, `flowShift`), and
/// asks the sampler of its choice, or `sampler`, which is the file's own, for a `Schedule`.
public struct NoiseSchedule: Sendable, Hashable {
  /// How the betas grow from `betaStart` to `betaEnd`.
  public enum BetaSchedule: String, Sendable, CaseIterable, Decodable {
    case linear
    /// Linear in the square root; latent diffusion's.
    case scaledLinear = "scaled_linear"
    /// The cosine schedule; arXiv:2102.09672, eq. 17.
    case squaredCosine = "squaredcos_cap_v2"
  }

  /// How inference timesteps are chosen among the training's: arXiv:2305.08891, table 2.
  public enum Spacing: String, Sendable, CaseIterable, Decodable {
    case leading, trailing, linspace
  }

  /// How sigmas are laid out between the greatest and the least.
  public enum SigmaSpacing: String, Sendable, CaseIterable {
    /// Evenly in sigma^(1/7): arXiv:2206.00364, eq. 5.
    case karras
    /// Sigmas that are evenly spaced in log(sigma).
    case exponential
    /// At the quantiles of the beta distribution with both parameters 0.6: arXiv:2407.12173.
    case beta
  }

  /// What the user chooses instead of the file. A sampler that cannot go along throws
  /// `DiffusionError.unsupportedLevels`.
  public enum Levels: Sendable, Hashable {
    case timesteps(Spacing)
    case sigmas(SigmaSpacing)
    /// Each step's noise: sigma / alpha, or a flow's sigma within 0...1, after any shift. They fall; a zero at
    /// the end is where the last step arrives in any case and may be left out.
    case theseSigmas([Double])
    /// Each step's training timestep; they fall.
    case theseTimesteps([Int])

    /// How many steps these are, where that is not the caller's choice.
    public var count: Int? {
      switch self {
      case .timesteps, .sigmas: nil
      case .theseSigmas(let sigmas): sigmas.last == 0 ? sigmas.count - 1 : sigmas.count
      case .theseTimesteps(let times): times.count
      }
    }
  }

  /// What UniPC divides by: arXiv:2302.04867, section 3.3 (B1 and B2).
  public enum UniPCSolver: String, Sendable, CaseIterable { case bh1, bh2 }

  /// The noise that the last step arrives at: none, or the training's least.
  public enum FinalSigma: String, Sendable, CaseIterable, Decodable {
    case zero
    case minimum = "sigma_min"
  }

  /// The variance of DDPM's steps: beta tilde or beta of arXiv:2006.11239, section 3.2.
  public enum Variance: String, Sendable, CaseIterable {
    case small = "fixed_small"
    case large = "fixed_large"
    /// Between the two, per element, as the network says: arXiv:2102.09672, eq. 15.
    case learnedRange = "learned_range"
  }

  /// How many timesteps the training had, 1...1000000.
  public var trainTimesteps = 1000
  /// The variance that the first training timestep adds.
  public var betaStart = 0.0001
  /// The variance that the last training timestep adds.
  public var betaEnd = 0.02
  /// How it grows between them.
  public var betaSchedule = BetaSchedule.linear
  /// Overrides the three fields above; one beta a training timestep.
  public var trainedBetas: [Double]?
  /// Whether betas are rescaled so that the last timestep has no signal; arXiv:2305.08891, algorithm 1.
  public var rescaleBetasZeroSNR = false
  /// What the network's output means.
  public var prediction = Prediction.epsilon
  /// Nil: leading for DDPM and DDIM, linspace for the others.
  public var timestepSpacing: Spacing?
  /// Added to every timestep of leading spacing.
  public var stepsOffset = 0
  /// The last step arrives at no noise rather than at timestep 0's. Nil: true for DDIM, false for PNDM.
  public var setAlphaToOne: Bool?
  /// Nil: true for DDPM, DDIM and unCLIP, false for LCM and Heun; the others do not clip.
  public var clipSample: Bool?
  /// Where the denoised sample is clipped to.
  public var clipSampleRange = 1.0
  /// Dynamic thresholding takes the place of clipping: arXiv:2205.11487, section 2.3. Not read by Euler, Heun, LMS, PNDM,
  /// unCLIP and DPM++ SDE.
  public var thresholding = false
  /// The quantile of the absolute values that becomes 1.
  public var thresholdingRatio = 0.995
  /// The most that the quantile counts for.
  public var sampleMaxValue = 1.0
  /// Of the noise that DDPM and unCLIP add.
  public var variance = Variance.small
  /// Euler, DPM++ 2M and UniPC only.
  public var finalSigma = FinalSigma.zero
  /// `use_karras_sigmas` and its like. Not read by the samplers of a chain of timesteps, nor by Euler ancestral.
  public var sigmaSpacing: SigmaSpacing?
  /// Of `sigmaSpacing`: the least sigma / alpha; nil for that of the timesteps.
  public var sigmaMin: Double?
  /// Of `sigmaSpacing`: the greatest sigma / alpha; nil for that of the timesteps.
  public var sigmaMax: Double?
  /// DPM++: the last step is of first order where there are fewer than 15. UniPC: the order falls to 1 at the
  /// end.
  public var lowerOrderFinal = true
  /// DPM++: the last step is of first order.
  public var eulerAtFinal = false
  /// DPM++ leaves out timesteps whose log(alpha / sigma) is less.
  public var lambdaMinClipped = -Double.infinity
  /// UniPC's order, 1 to 3; one more with its corrector.
  public var solverOrder = 2
  /// Which function B(h) UniPC uses.
  public var solverType = UniPCSolver.bh2
  /// UniPC integrates the denoised latent rather than the noise.
  public var predictX0 = true
  /// Steps, from 0, that UniPC does not correct.
  public var disableCorrector: Set<Int> = []
  /// PNDM begins with multistep steps (PLMS) rather than Runge-Kutta's.
  public var skipPRKSteps = false
  /// LCM: how many steps the distillation's schedule had.
  public var originalInferenceSteps = 50
  /// LCM: how soon the denoised latent counts for all.
  public var timestepScaling = 10.0
  /// How signal and noise add up.
  public var path = Schedule.Path.variancePreserving
  /// Of a flow's sigmas: s becomes shift s / (1 + (shift - 1) s). `shift` or `flow_shift`; arXiv:2403.03206, eq. 23.
  public var flowShift = 1.0
  /// What the user chooses instead of the file.
  public var levels: Levels?
  /// The sampler that the file's own class is; nil where there is none here or the file names none.
  public var sampler: SamplerChoice?
  /// Settings that are switched on in the file and that nothing here implements, by the file's names. A
  /// sampler whose class reads one of them throws.
  public var unsupported: Set<String> = []

  /// A schedule with diffusers' defaults.
  public init() {}

  /// The schedule as diffusers' Stable Diffusion pipelines use it: they set `steps_offset` to 1 and
  /// `clip_sample` to false whatever the file says.
  public func forStableDiffusion() -> NoiseSchedule {
    var result = self
    result.stepsOffset = 1
    result.clipSample = false
    return result
  }

  // MARK: Noise

  /// The product of (1 - beta) up to each training timestep, rounded to float32 where diffusers does.
  ///
  /// Rounding matters: 1 - alpha is small at early timesteps, and float32's error in alpha is up to 1e-4 of it.
  /// `clampingTerminal` replaces a zero at the end by 2^-24, as diffusers' samplers in sigma do.
  ///
  /// Throws `DiffusionError.configuration` where betas are not within (0, 1].
  public func alphasCumprod(clampingTerminal: Bool = false) throws -> [Float] {
    var product = 1.0
    var result = try betas().map { beta in
      product *= Double(1 - beta)
      return Float(product)
    }
    if clampingTerminal && rescaleBetasZeroSNR { result[result.count - 1] = 0x1p-24 }
    return result
  }

  private func betas() throws -> [Float] {
    guard (1...1_000_000).contains(trainTimesteps) else {
      throw DiffusionError.configuration(
        field: "num_train_timesteps", reason: "\(trainTimesteps) is not within 1 and 1000000")
    }
    var betas: [Float]
    if let trainedBetas {
      guard trainedBetas.count == trainTimesteps else {
        throw DiffusionError.configuration(
          field: "trained_betas", reason: "\(trainedBetas.count) values for \(trainTimesteps) timesteps")
      }
      betas = trainedBetas.map { Float($0) }
    } else {
      switch betaSchedule {
      case .linear: betas = linspace32(betaStart, betaEnd, trainTimesteps)
      case .scaledLinear:
        betas = linspace32(betaStart.squareRoot(), betaEnd.squareRoot(), trainTimesteps).map { $0 * $0 }
      case .squaredCosine:
        func alphaBar(_ t: Double) -> Double {
          let cosine = cos((t + 0.008) / 1.008 * .pi / 2)
          return cosine * cosine
        }
        let count = Double(trainTimesteps)
        betas = (0..<trainTimesteps).map { i in
          Float(min(1 - alphaBar(Double(i + 1) / count) / alphaBar(Double(i) / count), 0.999))
        }
      }
    }
    guard betas.allSatisfy({ $0 > 0 && $0 <= 1 }) else {
      throw DiffusionError.configuration(field: "betas", reason: "not all are within (0, 1]")
    }
    return rescaleBetasZeroSNR ? rescaledToZeroTerminalSNR(betas) : betas
  }

  /// Shifts and scales sqrt(alphaBar) so that it ends at 0 and begins where it did: arXiv:2305.08891,
  /// algorithm 1.
  private func rescaledToZeroTerminalSNR(_ betas: [Float]) -> [Float] {
    var product = 1.0
    let roots = betas.map { beta in
      product *= Double(1 - beta)
      return Float(product).squareRoot()
    }
    let (first, last) = (roots[0], roots[roots.count - 1])
    let bars = roots.map { root in
      let scaled = (root - last) * (first / (first - last))
      return scaled * scaled
    }
    return bars.indices.map { 1 - ($0 == 0 ? bars[0] : bars[$0] / bars[$0 - 1]) }
  }
}

/// Evenly spaced float32 numbers, built from both ends as torch.linspace does.
private func linspace32(_ start: Double, _ end: Double, _ count: Int) -> [Float] {
  let (a, b) = (Float(start), Float(end))
  guard count > 1 else { return [a] }
  let step = (b - a) / Float(count - 1)
  return (0..<count).map { $0 < count / 2 ? a + step * Float($0) : b - step * Float(count - 1 - $0) }
}
