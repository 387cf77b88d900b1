/// A backend that holds no numbers and computes nothing: all that is read from it is zero. A model of any size runs
/// on it for its shapes, its order of operations or its memory.
public protocol IdleBackend: Backend {}

/// Memory that is only a number of bytes.
private final class EmptyStorage: Storage {
  let byteCount: Int
  init(_ byteCount: Int) { self.byteCount = byteCount }
}

extension IdleBackend {
  /// Nothing real.
  public var identity: BackendIdentity { BackendIdentity(title: "computes nothing") }
  /// Nothing in use, no limit.
  public var memory: MemoryUse { MemoryUse() }
  /// Nothing is kept.
  public func releaseCachedMemory() {}
  /// The source's memory.
  public func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? { nil }
  /// The source's memory.
  public func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    TensorView(
      storage: source.storage, offset: source.offset,
      spec: TensorSpec([shape.rows, shape.columns], source.dtype))
  }
  /// Nothing happens.
  public func unpack(_ weight: TensorView, into output: TensorView) throws {}

  /// A storage without memory.
  public func allocate(byteCount: Int) throws -> any Storage { EmptyStorage(byteCount) }
  /// Nil.
  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> AdoptedMemory? {
    nil
  }
  /// Nothing is kept.
  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {}
  /// Zeros.
  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  /// Everything.
  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool { true }
  /// Nothing happens.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {}
  /// Nothing is waited for.
  public func synchronize() throws {}

  private var cannotRecord: TensorError {
    .deviceFailure(device: name, operation: "recording", reason: "the backend does not record its kernels")
  }

  /// Throws `TensorError.deviceFailure`: there are no kernels.
  public func startRecording() throws { throw cannotRecord }
  /// Throws `TensorError.deviceFailure`: there are no kernels.
  public func takeRecords() throws -> [KernelRecord] { throw cannotRecord }
  /// Throws `TensorError.deviceFailure`: there are no kernels.
  public func takeTransfers() throws -> [TransferRecord] { throw cannotRecord }
  /// Throws `TensorError.deviceFailure`: there are no kernels.
  public func stopRecording() throws { throw cannotRecord }
}
