import LangevinTensor

/// Everything that a device, its fallback and the host did during one run, on the host's time line.
public struct Recording: Sendable {
  /// A kernel that ran.
  public struct Kernel: Sendable {
    /// As the backend recorded it.
    public var record: KernelRecord
    /// `HostClock` nanoseconds at which it began on the device.
    public var start: UInt64
    /// `HostClock` nanoseconds at which it ended on the device.
    public var end: UInt64
    /// It ran on the fallback, for want of a kernel.
    public var isFallback: Bool

    /// Seconds on the device.
    public var seconds: Double { Double(end - start) * 1e-9 }
    /// The host waited for it: the backend computes within the call.
    var isSynchronous: Bool {
      record.started == record.hostStart && record.ended == record.hostEnd
    }
  }

  /// The device's name.
  public var device: String
  /// In the order of their launches.
  public var kernels: [Kernel]
  /// Copies between host and device, in order.
  public var transfers: [TransferRecord]
  /// Stages and layers, in the order in which they began; the first encloses all others.
  public var spans: [HostSpan]
  /// How many operations ran as simpler ones, by name: their kernels are among `kernels`.
  public var decompositions: [String: Int] = [:]

  /// Runs `body` and records what it does on the device.
  ///
  /// `name` is the outermost span's. What `body` throws is in the result: the recording then has what came
  /// before. Throws where the backend cannot record; it records no more afterwards.
  public static func make<R>(on device: Device, name: String = "generation", _ body: () throws -> R) throws
    -> (
      result: Result<R, any Error>, recording: Recording
    )
  {
    let log = SpanLog()
    let fallback = device.fallback
    let before = device.decompositions
    try device.backend.startRecording()
    try fallback?.startRecording()
    let result = Result { try SpanLog.$current.withValue(log) { try stage(name, body) } }
    do {
      var kernels = place(try device.backend.takeRecords(), isFallback: false)
      kernels += place(try fallback?.takeRecords() ?? [], isFallback: true)
      kernels.sort { $0.record.hostStart < $1.record.hostStart }
      let transfers = try device.backend.takeTransfers()
      try fallback?.stopRecording()
      try device.backend.stopRecording()
      let decompositions = device.decompositions.merging(before) { $0 - $1 }.filter { $0.value > 0 }
      let recording = Recording(
        device: device.name, kernels: kernels, transfers: transfers, spans: log.spans,
        decompositions: decompositions)
      return (result, recording)
    } catch {
      // Of a device that failed, the first error says the most.
      try? fallback?.stopRecording()
      try? device.backend.stopRecording()
      _ = try result.get()
      throw error
    }
  }

  /// Moves the device's times to the host's time line.
  ///
  /// A command is queued after the host began to prepare its launch, so the clocks differ by no less than
  /// `hostStart - queued`; the launch that was prepared fastest comes nearest, within a few microseconds.
  private static func place(_ records: [KernelRecord], isFallback: Bool) -> [Kernel] {
    let offset = records.map { Int64(bitPattern: $0.hostStart &- $0.queued) }.max() ?? 0
    return records.map { record in
      Kernel(
        record: record, start: UInt64(bitPattern: Int64(bitPattern: record.started) &+ offset),
        end: UInt64(bitPattern: Int64(bitPattern: record.ended) &+ offset), isFallback: isFallback)
    }
  }

  /// Seconds from the beginning of the outermost span to its end.
  public var seconds: Double { spans.first.map { Double($0.duration) * 1e-9 } ?? 0 }

  /// The innermost-but-one level that a table of stages shows: what the outermost span is made of.
  public var topStages: [HostSpan] { spans.filter { $0.kind == .stage && $0.depth == 1 } }
}
