import COpenCL
import LangevinTensor

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

/// Launches whose times the device has not told yet.
final class LaunchRecorder {
  /// What the launches that follow belong to; nil for those of no operation.
  private var current: (operation: Operation?, inputs: [TensorSpec], output: TensorSpec)?
  private var sequence = 0
  private var pending: [(event: cl_event, record: KernelRecord)] = []

  /// Events are looked at in batches, so that a long recording does not keep all of them.
  var isFull: Bool { pending.count >= 8192 }

  func begin(_ operation: Operation?, _ inputs: [TensorView], _ output: TensorView, _ sequence: Int?) {
    current = (operation, inputs.map(\.spec), output.spec)
    self.sequence = sequence ?? self.sequence
  }

  func add(_ event: cl_event, kernel: String, variant: String, start: UInt64, end: UInt64, memory: Int) {
    guard let current else {
      clReleaseEvent(event)
      return
    }
    let record = KernelRecord(
      operation: current.operation, inputs: current.inputs, output: current.output, path: LayerPath.current,
      sequence: sequence, kernel: kernel, variant: variant, queued: 0, submitted: 0, started: 0, ended: 0,
      hostStart: start, hostEnd: end, memory: memory)
    pending.append((event, record))
  }

  /// Hands over everything that is pending, with the device's times. The queue has been finished.
  ///
  /// Throws `OpenCLError`.
  func take() throws -> [KernelRecord] {
    defer { forget() }
    return try pending.map { event, record in
      func time(_ name: Int32) throws -> UInt64 {
        var value: cl_ulong = 0
        try check(
          clGetEventProfilingInfo(
            event, cl_profiling_info(name), MemoryLayout.size(ofValue: value), &value, nil),
          "clGetEventProfilingInfo")
        return value
      }
      var record = record
      record.queued = try time(CL_PROFILING_COMMAND_QUEUED)
      record.submitted = try time(CL_PROFILING_COMMAND_SUBMIT)
      record.started = try time(CL_PROFILING_COMMAND_START)
      record.ended = max(record.started, try time(CL_PROFILING_COMMAND_END))
      return record
    }
  }

  func forget() {
    for (event, _) in pending { clReleaseEvent(event) }
    pending = []
  }

  deinit { forget() }
}

/// One record a launch, timed by the device through events on a queue of its own.
extension OpenCLBackend {
  /// Forgets earlier records and keeps one a kernel from now on, on a queue that measures.
  public func startRecording() throws {
    try guarded("start of recording") { [context, kernels, log, pool] queue in
      kernels.prepare(&queue)
      try context.useProfilingQueue(true)
      queue.recorder = LaunchRecorder()
      _ = pool.takePeak()
      log.start()
    }
  }

  /// Waits for the queue; the kernels since the last call.
  public func takeRecords() throws -> [KernelRecord] {
    try guarded("recording") { try $0.collect() }
    return log.takeKernels()
  }

  /// The copies since the last call.
  public func takeTransfers() throws -> [TransferRecord] { log.takeTransfers() }

  /// Goes back to the queue that does not measure.
  public func stopRecording() throws {
    try guarded("end of recording") { [context, log] queue in
      queue.recorder = nil
      log.stop()
      try context.useProfilingQueue(false)
    }
  }
}

extension LaunchQueue {
  /// Waits, and moves what is pending to the log.
  func collect() throws {
    guard let recorder else { return }
    try finish()
    for record in try recorder.take() { log.add(record) }
  }

  /// Puts a command on the queue; `command` gets the place for its event, or nil while not recording.
  func recorded(
    _ kernel: String, _ variant: @autoclosure () -> String, since start: UInt64,
    _ command: (UnsafeMutablePointer<cl_event?>?) throws -> Void
  ) throws {
    guard let recorder else { return try command(nil) }
    var event: cl_event?
    try withUnsafeMutablePointer(to: &event) { try command($0) }
    let end = HostClock.now
    guard let event else { return }
    recorder.add(
      event, kernel: kernel, variant: variant(), start: start, end: end, memory: pool.takePeak())
    if recorder.isFull { try collect() }
  }

  /// When a launch or a copy begins, in `HostClock`'s nanoseconds; 0 while not recording.
  var recordingTime: UInt64 { recorder == nil ? 0 : HostClock.now }

  /// A copy that is done.
  func recordCopy(_ direction: TransferRecord.Direction, _ bytes: Int, since start: UInt64) {
    guard recorder != nil else { return }
    log.add(
      TransferRecord(
        direction: direction, bytes: bytes, path: LayerPath.current, hostStart: start, hostEnd: HostClock.now)
    )
  }
}
