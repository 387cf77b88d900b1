import Foundation

extension NoiseSchedule {
  /// Reads scheduler_config.json.
  ///
  /// Throws `DiffusionError.configuration` for a field of the wrong type or with an unknown value, and
  /// `DiffusionError.unknownScheduler` for a class whose noise is not described by betas.
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
  }

  /// Diffusers' classes that describe noise by the same fields (`KarrasDiffusionSchedulers`).
  private static let classes: Set<String> = [
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler", "DPMSolverSDEScheduler",
  ]

  /// Decodes scheduler_config.json. Throws `DiffusionError` and `DecodingError`; see `init(json:)`.
  public init(from decoder: any Decoder) throws {
    self.init()
    let fields = try decoder.container(keyedBy: Key.self)
    // Absent and null both mean the default.
    func read<T: Decodable>(_ key: Key, _ target: inout T) throws {
      if let value = try fields.decodeIfPresent(T.self, forKey: key) { target = value }
    }
    if let name = try fields.decodeIfPresent(String.self, forKey: .className), !Self.classes.contains(name) {
      throw DiffusionError.unknownScheduler(name: name)
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
    try read(.setAlphaToOne, &setAlphaToOne)
    clipSample = try fields.decodeIfPresent(Bool.self, forKey: .clipSample)
    try read(.clipSampleRange, &clipSampleRange)
    try read(.finalSigma, &finalSigma)
    try read(.useKarrasSigmas, &useKarrasSigmas)
    sigmaMin = try fields.decodeIfPresent(Double.self, forKey: .sigmaMin)
    sigmaMax = try fields.decodeIfPresent(Double.self, forKey: .sigmaMax)
    try read(.lowerOrderFinal, &lowerOrderFinal)
    try read(.eulerAtFinal, &eulerAtFinal)
    try read(.lambdaMinClipped, &lambdaMinClipped)

    switch try fields.decodeIfPresent(String.self, forKey: .variance) {
    case nil, "fixed_small", "fixed_small_log": variance = .small
    case "fixed_large": variance = .large
    default: unsupported.insert(Key.variance.rawValue)
    }
    let switches: [Key] = [
      .thresholding, .useExponentialSigmas, .useBetaSigmas, .useLuLambdas, .useFlowSigmas,
    ]
    for key in switches where try fields.decodeIfPresent(Bool.self, forKey: key) == true {
      unsupported.insert(key.rawValue)
    }
    for (key, usual) in [(Key.interpolation, "linear"), (.timestepType, "discrete")] {
      if let value = try fields.decodeIfPresent(String.self, forKey: key), value != usual {
        unsupported.insert(key.rawValue)
      }
    }
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
