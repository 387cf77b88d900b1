import Foundation

extension NoiseSchedule {
  /// Reads scheduler_config.json.
  ///
  /// Throws `DiffusionError.configuration` for a field of the wrong type or with an unknown value, and
  /// `DiffusionError.unknownScheduler` for a class whose noise is described neither by betas nor by a flow's sigmas.
  public init(json: Data) throws {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    do {
      self = try decoder.decode(NoiseSchedule.self, from: quotingNonFinite(json))
    } catch let error as DecodingError {
      throw DiffusionError.configuration(field: error.field, reason: error.reason)
    }
  }
}

extension NoiseSchedule: Decodable {
  private enum Key: String, CodingKey {
    case className = "_class_name"
    case trainTimesteps = "num_train_timesteps"
    case betaStart = "beta_start"
    case betaEnd = "beta_end"
    case betaSchedule = "beta_schedule"
    case trainedBetas = "trained_betas"
    case rescaleBetasZeroSNR = "rescale_betas_zero_snr"
    case prediction = "prediction_type"
    case timestepSpacing = "timestep_spacing"
    case stepsOffset = "steps_offset"
    case setAlphaToOne = "set_alpha_to_one"
    case clipSample = "clip_sample"
    case clipSampleRange = "clip_sample_range"
    case variance = "variance_type"
    case finalSigma = "final_sigmas_type"
    case useKarrasSigmas = "use_karras_sigmas"
    case sigmaMin = "sigma_min"
    case sigmaMax = "sigma_max"
    case lowerOrderFinal = "lower_order_final"
    case eulerAtFinal = "euler_at_final"
    case lambdaMinClipped = "lambda_min_clipped"
    case interpolation = "interpolation_type"
    case timestepType = "timestep_type"
    case thresholding
    case useExponentialSigmas = "use_exponential_sigmas"
    case useBetaSigmas = "use_beta_sigmas"
    case useLuLambdas = "use_lu_lambdas"
    case useFlowSigmas = "use_flow_sigmas"
    case flowShift = "flow_shift"
    case shift
    case useDynamicShifting = "use_dynamic_shifting"
    case shiftTerminal = "shift_terminal"
    case invertSigmas = "invert_sigmas"
    case stochasticSampling = "stochastic_sampling"
    case thresholdingRatio = "dynamic_thresholding_ratio"
    case sampleMaxValue = "sample_max_value"
    case algorithm = "algorithm_type"
    case solverOrder = "solver_order"
    case solverType = "solver_type"
    case predictX0 = "predict_x0"
    case disableCorrector = "disable_corrector"
    case solverP = "solver_p"
    case skipPRKSteps = "skip_prk_steps"
    case originalInferenceSteps = "original_inference_steps"
    case timestepScaling = "timestep_scaling"
  }

  /// Diffusers' classes that describe noise by the same fields, and what samples as they do.
  static let classes: [String: SamplerChoice?] = [
    "DDIMScheduler": .ddim, "DDPMScheduler": .ddpm, "PNDMScheduler": .pndm, "LMSDiscreteScheduler": .lms,
    "EulerDiscreteScheduler": .euler, "HeunDiscreteScheduler": .heun,
    "EulerAncestralDiscreteScheduler": .eulerAncestral, "DPMSolverMultistepScheduler": .dpmpp2M,
    "DPMSolverSinglestepScheduler": .none, "KDPM2DiscreteScheduler": .none,
    "KDPM2AncestralDiscreteScheduler": .none, "DEISMultistepScheduler": .none,
    "UniPCMultistepScheduler": .uniPC, "DPMSolverSDEScheduler": .dpmppSDE, "LCMScheduler": .lcm,
    "UnCLIPScheduler": .unCLIP, "FlowMatchEulerDiscreteScheduler": .euler,
    "FlowMatchHeunDiscreteScheduler": .heun,
  ]

  /// Where a class has other defaults than most.
  private mutating func takeDefaults(of className: String) {
    switch className {
    case "HeunDiscreteScheduler", "DPMSolverSDEScheduler", "KDPM2DiscreteScheduler",
      "KDPM2AncestralDiscreteScheduler":
      (betaStart, betaEnd) = (0.00085, 0.012)
    case "LCMScheduler": (betaStart, betaEnd, betaSchedule) = (0.00085, 0.012, .scaledLinear)
    case "UnCLIPScheduler": betaSchedule = .squaredCosine
    case "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler":
      (path, prediction) = (.flow, .flow)
    default: break
    }
  }

  /// Decodes scheduler_config.json. Throws `DiffusionError` and `DecodingError`; see `init(json:)`.
  public init(from decoder: any Decoder) throws {
    self.init()
    let fields = try decoder.container(keyedBy: Key.self)
    // Absent and null both mean the default.
    func read<T: Decodable>(_ key: Key, _ target: inout T) throws {
      if let value = try fields.decodeIfPresent(T.self, forKey: key) { target = value }
    }
    if let name = try fields.decodeIfPresent(String.self, forKey: .className) {
      guard let known = Self.classes[name] else { throw DiffusionError.unknownScheduler(name: name) }
      sampler = known
      takeDefaults(of: name)
    }
    try read(.trainTimesteps, &trainTimesteps)
    try read(.betaStart, &betaStart)
    try read(.betaEnd, &betaEnd)
    try read(.betaSchedule, &betaSchedule)
    trainedBetas = try fields.decodeIfPresent([Double].self, forKey: .trainedBetas)
    try read(.rescaleBetasZeroSNR, &rescaleBetasZeroSNR)
    try read(.prediction, &prediction)
    timestepSpacing = try fields.decodeIfPresent(Spacing.self, forKey: .timestepSpacing)
    try read(.stepsOffset, &stepsOffset)
    setAlphaToOne = try fields.decodeIfPresent(Bool.self, forKey: .setAlphaToOne)
    clipSample = try fields.decodeIfPresent(Bool.self, forKey: .clipSample)
    try read(.clipSampleRange, &clipSampleRange)
    try read(.finalSigma, &finalSigma)
    sigmaMin = try fields.decodeIfPresent(Double.self, forKey: .sigmaMin)
    sigmaMax = try fields.decodeIfPresent(Double.self, forKey: .sigmaMax)
    try read(.lowerOrderFinal, &lowerOrderFinal)
    try read(.eulerAtFinal, &eulerAtFinal)
    try read(.lambdaMinClipped, &lambdaMinClipped)

    try read(.thresholding, &thresholding)
    try read(.thresholdingRatio, &thresholdingRatio)
    try read(.sampleMaxValue, &sampleMaxValue)
    try read(.predictX0, &predictX0)
    try read(.disableCorrector, &disableCorrector)
    try read(.skipPRKSteps, &skipPRKSteps)
    try read(.originalInferenceSteps, &originalInferenceSteps)
    try read(.timestepScaling, &timestepScaling)
    try read(.flowShift, &flowShift)
    try read(.shift, &flowShift)
    try read(.solverOrder, &solverOrder)
    // Another solver's value means the default, as in diffusers.
    solverType = try UniPCSolver(rawValue: string(.solverType) ?? "") ?? .bh2

    func string(_ key: Key) throws -> String? { try fields.decodeIfPresent(String.self, forKey: key) }
    func isOn(_ key: Key) throws -> Bool { try fields.decodeIfPresent(Bool.self, forKey: key) == true }
    if try isOn(.useFlowSigmas) { path = .flow }
    if try sampler == .dpmpp2M && string(.algorithm) == "sde-dpmsolver++" { sampler = .dpmpp2MSDE }
    let spacings: [(Key, SigmaSpacing)] = [
      (.useKarrasSigmas, .karras), (.useExponentialSigmas, .exponential), (.useBetaSigmas, .beta),
    ]
    for (key, spacing) in spacings where try isOn(key) {
      guard sigmaSpacing == nil else {
        throw DiffusionError.configuration(
          field: key.rawValue, reason: "only one spacing of sigmas can be used")
      }
      sigmaSpacing = spacing
    }
    switch try string(.variance) {
    case nil, "fixed_small", "fixed_small_log": variance = .small
    case "fixed_large": variance = .large
    case "learned_range": variance = .learnedRange
    default: unsupported.insert(Key.variance.rawValue)
    }
    let switches: [Key] = [.useLuLambdas, .useDynamicShifting, .invertSigmas, .stochasticSampling]
    for key in switches where try isOn(key) { unsupported.insert(key.rawValue) }
    for (key, usual) in [(Key.interpolation, "linear"), (.timestepType, "discrete")] {
      if let value = try string(key), value != usual { unsupported.insert(key.rawValue) }
    }
    for key in [Key.solverP, .shiftTerminal] where fields.contains(key) {
      if try !fields.decodeNil(forKey: key) { unsupported.insert(key.rawValue) }
    }
    try checkRanges()
  }
}

/// Python's JSON writes infinities bare (`"lambda_min_clipped": -Infinity`), which JSON has no word for; this
/// puts them between quotes.
private func quotingNonFinite(_ json: Data) -> Data {
  var result = Data()
  var inString = false
  var escaped = false
  var word: [UInt8] = []
  func flush() {
    let bare = ["Infinity", "-Infinity", "NaN"].contains(String(decoding: word, as: UTF8.self))
    if bare { result.append(UInt8(ascii: "\"")) }
    result.append(contentsOf: word)
    if bare { result.append(UInt8(ascii: "\"")) }
    word = []
  }
  for byte in json {
    let isWord =
      byte == UInt8(ascii: "-") || (byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z"))
    if !inString && isWord {
      word.append(byte)
      continue
    }
    flush()
    result.append(byte)
    if escaped {
      escaped = false
    } else if inString && byte == UInt8(ascii: "\\") {
      escaped = true
    } else if byte == UInt8(ascii: "\"") {
      inString.toggle()
    }
  }
  flush()
  return result
}

extension DecodingError {
  fileprivate var field: String {
    switch self {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      context.codingPath.first?.stringValue ?? "the file"
    case .keyNotFound(let key, _): key.stringValue
    @unknown default: "the file"
    }
  }

  fileprivate var reason: String {
    switch self {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context),
      .keyNotFound(_, let context):
      context.debugDescription
    @unknown default: "cannot be read"
    }
  }
}
