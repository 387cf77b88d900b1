import Foundation

/// Where a training run is, as one line of text.
public struct TrainingProgress: Sendable, Equatable {
  /// How many steps the run has.
  public let total: Int
  /// How many are done.
  public private(set) var step: Int
  private let secondsAllowed: Double?
  private var secondsSpent = 0.0
  private var recorded = 0
  private var steps: [Step] = []
  private var rate = 0.0
  private var lossSum = 0.0, lossWeight = 0.0

  private struct Step: Equatable {
    let samples: Int, seconds: Double, flops: Double?
  }

  /// How much an older loss counts against the one after it.
  private static let decay = 0.98
  /// Speeds are means over so many steps.
  private static let window = 20

  /// A run that begins after `step` and ends by itself after so many seconds, if given.
  public init(total: Int, step: Int = 0, secondsAllowed: Double? = nil) {
    (self.total, self.step, self.secondsAllowed) = (total, step, secondsAllowed)
  }

  /// A step is done, which took so many seconds; `flops` are its floating-point operations. A loss that is not finite
  /// is left out of the mean.
  public mutating func record(
    step: Int, loss: Double, rate: Double, samples: Int, seconds: Double, flops: Double? = nil
  ) {
    self.step = step
    self.rate = rate
    secondsSpent += seconds
    if loss.isFinite {
      lossSum = Self.decay * lossSum + loss
      lossWeight = Self.decay * lossWeight + 1
    }
    recorded += 1
    // The first step also compiles kernels.
    if recorded == 2 { steps = [] }
    steps = steps.suffix(Self.window - 1) + [Step(samples: samples, seconds: seconds, flops: flops)]
  }

  /// The mean of the losses so far, older ones counting less; nil before the first.
  public var loss: Double? { lossWeight > 0 ? lossSum / lossWeight : nil }

  private var seconds: Double { steps.reduce(0) { $0 + $1.seconds } }

  /// Of the last steps; nil before the first.
  public var samplesPerSecond: Double? {
    seconds > 0 ? Double(steps.reduce(0) { $0 + $1.samples }) / seconds : nil
  }

  /// Of the last steps; nil where operations were not counted.
  public var flopsPerSecond: Double? {
    let flops = steps.compactMap(\.flops)
    return seconds > 0 && flops.count == steps.count ? flops.reduce(0, +) / seconds : nil
  }

  /// To the last step, or to the end of the time allowed; nil before the first step.
  public var secondsLeft: Double? {
    guard !steps.isEmpty else { return nil }
    let left = seconds / Double(steps.count) * Double(max(total - step, 0))
    return secondsAllowed.map { min(left, max($0 - secondsSpent, 0)) } ?? left
  }

  /// `step 120/12000 [##----] loss 0.2314, rate 6.00e-04, 31.2 samples/s, 142 GFLOP/s, 1:23:45 left`; without the bar
  /// where its width is 0. What is not known is left out.
  public func line(barWidth: Int = 0) -> String {
    var title = "step \(step)/\(total)"
    if barWidth > 0 {
      let done = min(step * barWidth / max(total, 1), barWidth)
      title +=
        " [" + String(repeating: "#", count: done) + String(repeating: "-", count: barWidth - done) + "]"
    }
    var figures: [String] = []
    if let loss { figures.append("loss " + Self.text(loss)) }
    if !steps.isEmpty { figures.append(String(format: "rate %.2e", rate)) }
    if let samplesPerSecond {
      figures.append(
        String(format: samplesPerSecond < 100 ? "%.1f samples/s" : "%.0f samples/s", samplesPerSecond))
    }
    if let flopsPerSecond {
      figures.append(
        flopsPerSecond < 1e12
          ? String(format: "%.0f GFLOP/s", flopsPerSecond / 1e9)
          : String(format: "%.1f TFLOP/s", flopsPerSecond / 1e12))
    }
    if let secondsLeft { figures.append(Self.duration(secondsLeft) + " left") }
    return figures.isEmpty ? title : title + " " + figures.joined(separator: ", ")
  }

  /// Four digits that tell something.
  private static func text(_ loss: Double) -> String {
    abs(loss) < 0.01 && loss != 0
      ? String(format: "%.3e", loss)
      : String(format: abs(loss) < 10 ? "%.4f" : "%.2f", loss)
  }

  /// `1:05` or `2:03:04`, rounded up; `?` for what is not finite.
  package static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite else { return "?" }
    let whole = Int(min(seconds.rounded(.up), 1e9))
    return whole >= 3600
      ? String(format: "%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60)
      : String(format: "%d:%02d", whole / 60, whole % 60)
  }
}
