import LangevinTensor

/// One record an operation: everything is done when a call returns, so that the device's clock is the host's.
extension CPUBackend {
  /// Forgets earlier records and keeps one an operation from now on.
  public func startRecording() throws {
    _ = pool.takePeak()
    log.start()
  }
  /// The operations since the last call.
  public func takeRecords() throws -> [KernelRecord] { log.takeKernels() }
  /// The copies since the last call.
  public func takeTransfers() throws -> [TransferRecord] { log.takeTransfers() }
  /// Keeps nothing from now on.
  public func stopRecording() throws { log.stop() }

  /// `operation` is nil for the packing of weights.
  func record(
    _ operation: Operation?, _ inputs: [TensorView], _ output: TensorView, _ body: () throws -> Void
  ) throws {
    guard let sequence = log.nextOperation() else { return try body() }
    let start = HostClock.now
    try body()
    let end = HostClock.now
    log.add(
      KernelRecord(
        operation: operation, inputs: inputs.map(\.spec), output: output.spec, path: LayerPath.current,
        sequence: sequence, kernel: operation?.name ?? "pack", variant: output.dtype.rawValue, queued: start,
        submitted: start, started: start, ended: end, hostStart: start, hostEnd: end, memory: pool.takePeak())
    )
  }

  func recordCopy(_ direction: TransferRecord.Direction, _ bytes: Int, _ body: () -> Void) {
    guard log.isOn else { return body() }
    let start = HostClock.now
    body()
    log.add(
      TransferRecord(
        direction: direction, bytes: bytes, path: LayerPath.current, hostStart: start, hostEnd: HostClock.now)
    )
  }
}
