import LangevinTensor

/// Where the time of a recorded run went.
public struct Profile: Sendable, Codable {
  /// Operations of one kind, or of one layer.
  public struct Row: Sendable, Codable {
    /// An operation's label or a layer's path; in parentheses the stage, for what belongs to no layer.
    public var name: String
    /// Of operations of one kind.
    var family: OperationFamily?
    /// How many operations ran.
    public var operations = 0
    /// How many kernels they launched.
    public var launches = 0
    /// Time of the kernels by the device's clock.
    public var seconds = 0.0
    /// Of the sum over all rows.
    public var share = 0.0
    /// What the operations had to do at least.
    public var work = Work()
    /// Which ceiling its arithmetic intensity is under.
    public var bound = Bound.memory
    /// Of what that ceiling allows; above 1 where caches serve faster than memory.
    public var ofCeiling = 0.0

    /// FLOP/s over the kernels' time; 0 without any.
    public var flopsPerSecond: Double { seconds > 0 ? work.flops / seconds : 0 }
    /// Bytes/s over the kernels' time; 0 without any.
    public var bytesPerSecond: Double { seconds > 0 ? work.bytes / seconds : 0 }
  }

  /// Which of a device's ceilings an arithmetic intensity meets.
  public enum Bound: String, Sendable, Codable { case compute, memory }

  /// A part of the run.
  public struct Stage: Sendable, Codable {
    /// As the pipeline calls it; `steps` for all steps together.
    public var name: String
    /// How many spans: more than one for steps.
    public var count = 0
    /// Wall time on the host.
    public var seconds = 0.0
    /// Of the whole run.
    public var share = 0.0
    /// Device time of its kernels.
    public var deviceSeconds = 0.0
    /// How many kernels were launched.
    public var launches = 0
    /// The most bytes of device memory in use.
    public var memory = 0
  }

  /// Time in which the device had nothing to do between two kernels.
  public struct Gaps: Sendable, Codable {
    /// How many gaps were longer than `threshold`.
    public var count = 0
    /// The time of all gaps together.
    public var seconds = 0.0
    /// Of gaps and kernels together.
    public var share = 0.0
    /// The longest, in seconds.
    public var longest = 0.0
    /// The shortest gap that is counted, in seconds.
    public static let threshold = 50e-6
  }

  /// What the host spends on each launch: arguments, enqueueing, and the first time the kernel's build.
  public struct HostTime: Sendable, Codable {
    /// The median, in seconds.
    public var median = 0.0
    /// Seconds; not exceeded by 99 of 100.
    public var percentile99 = 0.0
    /// Seconds, of all launches.
    public var total = 0.0
  }

  /// Copies in one direction.
  public struct Copies: Sendable, Codable {
    /// How many copies there were.
    public var count = 0
    /// How many bytes were copied.
    public var bytes = 0
    /// Host time, with waits for the work that a download depends on.
    public var seconds = 0.0
  }

  /// What ran elsewhere for want of a kernel.
  public struct Fallbacks: Sendable, Codable {
    /// How many operations ran on the fallback device.
    public var operations = 0
    /// Copied there and back.
    public var bytes = 0
    /// On the fallback, without the copies.
    public var seconds = 0.0
    /// How many by operation.
    public var byName: [String: Int] = [:]
  }

  /// The device's name: `opencl:0`.
  public var device: String
  /// The run was stopped before its end.
  public var isPartial = false
  /// What the device can do at most.
  public var ceilings: Ceilings
  /// Host time of the run, from end to end.
  public var seconds: Double
  /// Device time of all kernels that the tables show: those outside the stages named `load`.
  public var deviceSeconds: Double
  /// By operation, the longest first.
  public var operations: [Row]
  /// By layer, the longest first.
  public var layers: [Row]
  /// In the order of the run.
  public var stages: [Stage]
  /// Without those of loading.
  public var gaps: Gaps
  /// All kernels, with those of loading.
  public var launches: Int
  /// Nil where the host computes itself.
  public var hostPerLaunch: HostTime?
  /// Copies from the host to the device.
  public var uploads: Copies
  /// Copies from the device to the host.
  public var downloads: Copies
  /// What the device had no kernel for.
  public var fallbacks: Fallbacks
  /// How many operations ran as simpler ones for want of a kernel of their own, by name; the tables show those.
  public var decompositions: [String: Int]
  /// How many denoising steps were recorded.
  public var steps: Int
  /// Denoising steps per second; nil where none was recorded.
  public var stepsPerSecond: Double?
  /// Seconds of each step, in order.
  public var stepSeconds: [Double]
  /// Seconds of steps that were not recorded, where some were measured.
  public var unrecordedStepSeconds: [Double]

  /// How much longer a step takes while it is recorded: 0.02 is 2 %. Medians, without the first step; nil where
  /// nothing was measured without recording.
  public var overhead: Double? {
    guard let recorded = Sample(stepSeconds.count > 1 ? Array(stepSeconds.dropFirst()) : stepSeconds),
      let plain = Sample(unrecordedStepSeconds), plain.median > 0
    else { return nil }
    return recorded.median / plain.median - 1
  }

  /// Sums up a recording.
  ///
  /// `depth` is how many components of a layer's path tell rows apart (`unet.down_blocks.0` has three).
  public init(
    _ recording: Recording, ceilings: Ceilings, depth: Int = 3, unrecordedStepSeconds: [Double] = []
  ) {
    device = recording.device
    self.ceilings = ceilings
    self.unrecordedStepSeconds = unrecordedStepSeconds
    seconds = recording.seconds
    let tops = StageIndex(recording.topStages)
    let shown = recording.kernels.filter { !Profile.isLoading(tops.stage(at: $0.record.hostStart)?.name) }
    deviceSeconds = shown.reduce(0) { $0 + $1.seconds }
    operations = Profile.rows(shown, ceilings) { $0.record.label }
    let families = Dictionary(
      shown.map { ($0.record.label, $0.record.family) },
      uniquingKeysWith: { first, _ in first })
    for index in operations.indices { operations[index].family = families[operations[index].name] }
    let stageSpans = recording.spans.filter { $0.kind == .stage }
    layers = Profile.rows(shown, ceilings) { kernel in
      let record = kernel.record
      guard record.path.isEmpty else {
        let path = record.path.split(separator: ".").prefix(max(1, depth)).joined(separator: ".")
        // A layer's gradients are computed under its path too.
        return tops.stage(at: record.hostStart)?.name == "backward" ? "backward " + path : path
      }
      // They are sorted by their beginning: the last that holds the time is the innermost.
      let stage = stageSpans.last { $0.start <= record.hostStart && record.hostStart <= $0.end }
      return "(\(stage.map { Profile.group($0.name) } ?? "outside stages"))"
    }
    stages = Profile.stages(recording, tops)
    gaps = Profile.gaps(recording.kernels) { Profile.isLoading(tops.stage(at: $0.record.hostStart)?.name) }
    launches = recording.kernels.count
    let asynchronous = recording.kernels.filter { !$0.isSynchronous && !$0.isFallback }
    hostPerLaunch = Sample(asynchronous.map { Double($0.record.hostEnd - $0.record.hostStart) * 1e-9 }).map {
      HostTime(median: $0.median, percentile99: $0.quantile(0.99), total: $0.values.reduce(0, +))
    }
    uploads = Profile.copies(.upload, recording.transfers)
    downloads = Profile.copies(.download, recording.transfers)
    fallbacks = Profile.fallbacks(recording.kernels)
    decompositions = recording.decompositions
    // A recording of training is of one step, a generation has several.
    let isStep = recording.spans.first.map { Profile.group($0.name) == "steps" } ?? false
    stepSeconds = (isStep ? recording.spans.prefix(1) : recording.topStages[...])
      .filter { Profile.group($0.name) == "steps" }.map { Double($0.duration) * 1e-9 }
    steps = stepSeconds.count
    let total = stepSeconds.reduce(0, +)
    stepsPerSecond = total > 0 ? Double(steps) / total : nil
  }

  /// Whether a stage only loads weights.
  static func isLoading(_ stage: String?) -> Bool { stage?.hasPrefix("load") ?? false }

  /// Steps are one group; every other stage is its own.
  static func group(_ stage: String) -> String { stage.hasPrefix("step ") ? "steps" : stage }

  private static func copies(_ direction: TransferRecord.Direction, _ transfers: [TransferRecord]) -> Copies {
    transfers.reduce(into: Copies()) { copies, transfer in
      guard transfer.direction == direction else { return }
      copies.count += 1
      copies.bytes += transfer.bytes
      copies.seconds += Double(transfer.hostEnd - transfer.hostStart) * 1e-9
    }
  }

  private static func fallbacks(_ kernels: [Recording.Kernel]) -> Fallbacks {
    kernels.reduce(into: Fallbacks()) { fallbacks, kernel in
      guard kernel.isFallback else { return }
      let record = kernel.record
      fallbacks.operations += 1
      fallbacks.seconds += kernel.seconds
      fallbacks.bytes += record.inputs.reduce(record.output.byteCount) { $0 + $1.byteCount }
      fallbacks.byName[record.operation?.name ?? record.label, default: 0] += 1
    }
  }

  private static func rows(
    _ kernels: [Recording.Kernel], _ ceilings: Ceilings, by key: (Recording.Kernel) -> String
  ) -> [Row] {
    var rows: [String: Row] = [:]
    // An operation's kernels follow each other; its work counts once.
    var last: (sequence: Int, isFallback: Bool)?
    for kernel in kernels {
      let name = key(kernel)
      let record = kernel.record
      var row = rows[name] ?? Row(name: name)
      row.seconds += kernel.seconds
      row.launches += 1
      if last?.sequence != record.sequence || last?.isFallback != kernel.isFallback {
        row.operations += 1
        if let operation = record.operation {
          row.work += operation.work(inputs: record.inputs, output: record.output)
        }
        last = (record.sequence, kernel.isFallback)
      }
      rows[name] = row
    }
    let total = rows.values.reduce(0) { $0 + $1.seconds }
    return rows.values.map { row in
      var row = row
      row.share = total > 0 ? row.seconds / total : 0
      row.bound = row.work.flops / ceilings.flops > row.work.bytes / ceilings.bandwidth ? .compute : .memory
      row.ofCeiling = ceilings.fraction(flops: row.work.flops, bytes: row.work.bytes, seconds: row.seconds)
      return row
    }.sorted { ($1.seconds, $0.name) < ($0.seconds, $1.name) }
  }

  private static func stages(_ recording: Recording, _ tops: StageIndex) -> [Stage] {
    var stages: [Stage] = []
    var index: [String: Int] = [:]
    func update(_ name: String, _ change: (inout Stage) -> Void) {
      let name = group(name)
      let place = index[name] ?? stages.count
      if place == stages.count {
        stages.append(Stage(name: name))
        index[name] = place
      }
      change(&stages[place])
    }
    for span in tops.spans {
      update(span.name) {
        $0.count += 1
        $0.seconds += Double(span.duration) * 1e-9
      }
    }
    for kernel in recording.kernels {
      update(tops.stage(at: kernel.record.hostStart)?.name ?? "(between stages)") {
        $0.deviceSeconds += kernel.seconds
        $0.launches += 1
        if !kernel.isFallback { $0.memory = max($0.memory, kernel.record.memory) }
      }
    }
    let total = recording.seconds
    return stages.map { stage in
      var stage = stage
      stage.share = total > 0 ? stage.seconds / total : 0
      return stage
    }
  }

  /// A gap beside loading is the loading's.
  private static func gaps(_ kernels: [Recording.Kernel], _ isLoading: (Recording.Kernel) -> Bool) -> Gaps {
    var gaps = Gaps()
    var busy = 0.0
    var last: (end: UInt64, isLoading: Bool)?
    for kernel in kernels.filter({ !$0.isFallback }).sorted(by: { $0.start < $1.start }) {
      let isLoading = isLoading(kernel)
      if !isLoading { busy += kernel.seconds }
      if let last, !last.isLoading, !isLoading, kernel.start > last.end {
        let gap = Double(kernel.start - last.end) * 1e-9
        gaps.seconds += gap
        gaps.longest = max(gaps.longest, gap)
        if gap > Gaps.threshold { gaps.count += 1 }
      }
      last = (max(kernel.end, last?.end ?? 0), isLoading)
    }
    gaps.share = gaps.seconds + busy > 0 ? gaps.seconds / (gaps.seconds + busy) : 0
    return gaps
  }
}

/// Finds the stage that was running at a time.
struct StageIndex {
  /// The spans of one depth, in order and without overlap.
  let spans: [HostSpan]

  init(_ spans: [HostSpan]) { self.spans = spans }

  func stage(at time: UInt64) -> HostSpan? {
    var (low, high) = (0, spans.count)
    while low < high {
      let middle = (low + high) / 2
      if spans[middle].start <= time { low = middle + 1 } else { high = middle }
    }
    guard low > 0, time <= spans[low - 1].end else { return nil }
    return spans[low - 1]
  }
}
