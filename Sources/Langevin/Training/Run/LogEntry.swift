import LangevinJSON

/// What is known of a training step when it is done: a line of log.jsonl, and the scalars of TensorBoard.
public struct LogEntry: Sendable, Equatable {
  /// The step's number, from 1.
  public var step: Int
  /// How many samples the run has seen.
  public var samples: UInt64
  /// The mean over the step's batch.
  public var loss: Double
  /// The learning rate.
  public var rate: Double
  /// The norm of all gradients together, before clipping.
  public var gradientNorm: Double
  /// Of training since the run began, without what lay between an interruption and its resumption.
  public var seconds: Double
  /// Of this step.
  public var samplesPerSecond: Double
  /// Billions of floating-point operations a second; nil where they were not counted.
  public var gflops: Double?
  /// The most bytes that were in use on the device.
  public var memoryPeak: Int
  /// By which the loss was multiplied; nil but in float16.
  public var lossScale: Double?
  /// How many steps so far were left out because a gradient was not finite.
  public var skipped: Int
  /// Figures of the task, as `loss_kl`, by their names.
  public var more: [(name: String, value: Double)]

  /// A step's figures.
  public init(
    step: Int, samples: UInt64, loss: Double, rate: Double, gradientNorm: Double, seconds: Double,
    samplesPerSecond: Double, gflops: Double? = nil, memoryPeak: Int = 0, lossScale: Double? = nil,
    skipped: Int = 0, more: [(name: String, value: Double)] = []
  ) {
    (self.step, self.samples, self.loss, self.rate) = (step, samples, loss, rate)
    (self.gradientNorm, self.seconds, self.samplesPerSecond) = (gradientNorm, seconds, samplesPerSecond)
    (self.gflops, self.memoryPeak, self.lossScale) = (gflops, memoryPeak, lossScale)
    (self.skipped, self.more) = (skipped, more)
  }

  /// Every figure but the step and the count of samples, by its name in log.jsonl.
  var figures: [(name: String, value: Double)] {
    var result = [
      ("loss", loss), ("rate", rate), ("grad_norm", gradientNorm), ("seconds", seconds),
      ("samples_per_second", samplesPerSecond),
    ]
    if let gflops { result.append(("gflops", gflops)) }
    result.append(("memory_peak", Double(memoryPeak)))
    if let lossScale { result.append(("loss_scale", lossScale)) }
    result.append(("skipped", Double(skipped)))
    return result + more
  }

  /// The line's object. What is not finite becomes null, as JSON has no word for it.
  public var json: StrictJSON {
    let whole: Set = ["memory_peak", "skipped"]
    let counts = [
      StrictJSON.Member("step", .integer(step)), StrictJSON.Member("samples", .number("\(samples)")),
    ]
    return .object(
      counts
        + figures.map { name, value in
          let number: StrictJSON =
            !value.isFinite ? .null : whole.contains(name) ? .integer(Int(value)) : .real(value)
          return StrictJSON.Member(name, number)
        })
  }

  /// Reads a line's object; null is NaN. Nil where a figure is missing or is no number.
  public init?(_ json: StrictJSON) {
    guard case .object(var members) = json else { return nil }
    func take(_ name: String) -> StrictJSON? {
      guard let place = members.firstIndex(where: { $0.key == name }) else { return nil }
      return members.remove(at: place).value
    }
    func number(_ value: StrictJSON?) -> Double? { value == .null ? .nan : value?.double }
    guard let step = take("step")?.count, case .number(let samples) = take("samples"),
      let samples = UInt64(samples), let loss = number(take("loss")), let rate = number(take("rate")),
      let gradientNorm = number(take("grad_norm")), let seconds = number(take("seconds")),
      let speed = number(take("samples_per_second")), let memoryPeak = take("memory_peak")?.count,
      let skipped = take("skipped")?.count
    else { return nil }
    self.init(
      step: step, samples: samples, loss: loss, rate: rate, gradientNorm: gradientNorm, seconds: seconds,
      samplesPerSecond: speed, gflops: number(take("gflops")), memoryPeak: memoryPeak,
      lossScale: number(take("loss_scale")), skipped: skipped)
    for member in members {
      guard let value = number(member.value) else { return nil }
      more.append((member.key, value))
    }
  }

  /// The same figures; NaN equals NaN.
  public static func == (a: LogEntry, b: LogEntry) -> Bool { a.json == b.json }
}
