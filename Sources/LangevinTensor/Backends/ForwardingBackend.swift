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
  /// The name of the backend below; a wrapper with a name of its own replaces it.
  public var name: String { base.name }
  /// Which device computes, whoever watches.
  public var identity: BackendIdentity { base.identity }
  /// What the backend below holds: a wrapper allocates through it.
  public var memory: MemoryUse { base.memory }
  /// Gives back what the backend below keeps.
  public func releaseCachedMemory() { base.releaseCachedMemory() }

  /// The size of the packed form of the backend below, which alone reads it.
  public func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? {
    base.packedByteCount(shape, dtype)
  }

  /// Packs for the backend below. Throws what it throws.
  public func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    try base.pack(source, shape)
  }

  /// Unpacks what `pack` packed. Throws what the backend below throws.
  public func unpack(_ weight: TensorView, into output: TensorView) throws {
    try base.unpack(weight, into: output)
  }

  /// A storage of the backend below. Throws `TensorError.outOfMemory`.
  public func allocate(byteCount: Int) throws -> any Storage { try base.allocate(byteCount: byteCount) }

  /// Memory of the caller as a storage, where the backend below can read it in place; else nil.
  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> AdoptedMemory? {
    base.adopt(bytes, owner: owner)
  }

  /// Fills a storage that the backend below made.
  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    try base.upload(bytes, to: storage, byteOffset: byteOffset)
  }

  /// Reads a storage that the backend below made, after what was queued before.
  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    try base.download(storage, byteOffset: byteOffset, into: bytes)
  }

  /// Whether the backend below has a kernel: a wrapper computes nothing by itself.
  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool {
    base.supports(operation, inputs: inputs)
  }

  /// Computes on the backend below, with storages that it made.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try base.execute(operation, inputs: inputs, output: output)
  }

  /// Waits until the backend below has done all that was queued.
  public func synchronize() throws { try base.synchronize() }

  /// From now on the backend below notes its kernels and transfers.
  public func startRecording() throws { try base.startRecording() }
  /// The kernels that were noted since the last call, in the order in which they ran.
  public func takeRecords() throws -> [KernelRecord] { try base.takeRecords() }
  /// The copies to and from the device that were noted since the last call.
  public func takeTransfers() throws -> [TransferRecord] { try base.takeTransfers() }
  /// Ends the noting; what was not taken is lost.
  public func stopRecording() throws { try base.stopRecording() }
}
