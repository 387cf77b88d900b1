/// A backend over another one, which answers wherever the wrapper has no method of its own.
///
/// Storages are the other backend's. A wrapper that hands out its own takes them apart again in `upload`,
/// `download` and `execute`. What a backend can do beyond `Backend`, such as `PeakMeasuring`, is not passed on.
public protocol ForwardingBackend: Backend {
  /// The backend that answers.
  var base: any Backend { get }
}

// Every requirement of `Backend` is here, and `Backend` itself has no defaults. So a new requirement does not
// compile until it is passed on.
extension ForwardingBackend {
  /// The base's.
  public var name: String { base.name }
  /// The base's.
  public var identity: BackendIdentity { base.identity }
  /// The base's.
  public var memory: MemoryUse { base.memory }

  /// The base's.
  public func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? {
    base.packedByteCount(shape, dtype)
  }

  /// Asks the base.
  public func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    try base.pack(source, shape)
  }

  /// Passed on to the base.
  public func unpack(_ weight: TensorView, into output: TensorView) throws {
    try base.unpack(weight, into: output)
  }

  /// Asks the base.
  public func allocate(byteCount: Int) throws -> any Storage { try base.allocate(byteCount: byteCount) }

  /// Asks the base.
  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> (any Storage)? {
    base.adopt(bytes, owner: owner)
  }

  /// Passed on to the base.
  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    try base.upload(bytes, to: storage, byteOffset: byteOffset)
  }

  /// Passed on to the base.
  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    try base.download(storage, byteOffset: byteOffset, into: bytes)
  }

  /// What the base supports.
  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool {
    base.supports(operation, inputs: inputs)
  }

  /// Passed on to the base.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try base.execute(operation, inputs: inputs, output: output)
  }

  /// Passed on to the base.
  public func synchronize() throws { try base.synchronize() }

  /// Passed on to the base.
  public func startRecording() throws { try base.startRecording() }
  /// The base's.
  public func takeRecords() throws -> [KernelRecord] { try base.takeRecords() }
  /// The base's.
  public func takeTransfers() throws -> [TransferRecord] { try base.takeTransfers() }
  /// Passed on to the base.
  public func stopRecording() throws { try base.stopRecording() }
}
