/// A block of memory of one backend; it goes back to the backend's pool when the last tensor lets go of it.
public protocol Storage: AnyObject, Sendable {
  /// Bytes that tensors may use.
  var byteCount: Int { get }
}

/// Contiguous elements within a storage, as a backend sees an operand.
public struct TensorView: Sendable {
  /// The memory that holds them.
  public let storage: any Storage
  /// Where the tensor begins in its storage, in elements.
  public let offset: Int
  /// Shape and dtype of the elements.
  public let spec: TensorSpec

  /// Extents, outermost first.
  public var shape: Shape { spec.shape }
  /// Storage of an element.
  public var dtype: DType { spec.dtype }
  /// Where the first element begins, in bytes.
  public var byteOffset: Int { offset * spec.dtype.byteCount }

  /// The elements from `offset` on, as many as the shape holds.
  public init(storage: any Storage, offset: Int, spec: TensorSpec) {
    self.storage = storage
    self.offset = offset
    self.spec = spec
  }
}

/// Bytes of a backend's memory.
public struct MemoryUse: Sendable, Hashable {
  /// Held by live tensors.
  public var inUse = 0
  /// Freed by tensors, kept for reuse.
  public var cached = 0
  /// The most that was in use at once.
  public var highWater = 0
  /// What the device offers.
  public var limit = 0

  /// Amounts in bytes.
  public init(inUse: Int = 0, cached: Int = 0, highWater: Int = 0, limit: Int = 0) {
    self.inUse = inUse
    self.cached = cached
    self.highWater = highWater
    self.limit = limit
  }
}

/// Host memory that a device reads where it is.
public struct AdoptedMemory: Sendable {
  /// Holds the memory's owner.
  public let storage: any Storage
  /// Where the bytes begin in it: it may have to begin before them to be aligned.
  public let byteOffset: Int

  /// Bytes from `byteOffset` on.
  public init(_ storage: any Storage, byteOffset: Int = 0) {
    (self.storage, self.byteOffset) = (storage, byteOffset)
  }
}

/// A device that computes. Calls take effect in the order in which they are made; `execute` and `upload` may
/// return before the work is done, and an error of theirs may surface at `download` or `synchronize`.
///
/// A backend over another one is a `ForwardingBackend`, one that computes nothing an `IdleBackend`.
public protocol Backend: AnyObject, Sendable {
  /// As the user names it: `cpu`, `opencl:0`.
  var name: String { get }
  /// What it computes on.
  var identity: BackendIdentity { get }
  /// What it holds and may hold, in bytes.
  var memory: MemoryUse { get }

  /// Throws `TensorError.outOfMemory`.
  func allocate(byteCount: Int) throws -> any Storage
  /// Gives the memory that is kept for reuse back to the system: memory of other sizes is needed next.
  func releaseCachedMemory()
  /// Host memory as a storage that is only read, without a copy, for as long as `owner` lives, which the storage
  /// holds, and where in it the bytes begin; nil where the device needs a copy of its own.
  func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> AdoptedMemory?
  /// The bytes are copied before it returns.
  func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws
  /// Waits for the work that the bytes depend on.
  func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer) throws

  /// Bytes of a weight as `pack` makes it; nil where it is the source's own memory.
  func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int?
  /// A weight [rows, columns] in the form in which this backend's products are fastest, of the source's dtype. The source
  /// is contiguous, [columns, channels, taps...], and has elements. Only this backend reads the result.
  func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView
  /// Writes a packed weight [rows, columns] to `output`, row-major. The law: what was packed comes back, bit by bit.
  func unpack(_ weight: TensorView, into output: TensorView) throws

  /// Shapes and dtypes have passed shape inference.
  func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool
  /// The output is allocated, does not overlap an input and is written in full.
  func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws
  /// Waits for all work; throws what failed meanwhile.
  func synchronize() throws

  /// Begins to record every kernel and copy, from nothing, after the work so far is done. Recording may slow
  /// the backend; while it is off it costs no more than a check.
  ///
  /// A backend that cannot record throws `TensorError.deviceFailure`.
  func startRecording() throws
  /// Waits for the work so far and hands over its kernels, in the order in which they were launched, once.
  func takeRecords() throws -> [KernelRecord]
  /// Hands over the copies between host and device so far, once.
  func takeTransfers() throws -> [TransferRecord]
  /// Waits for the work so far, and records no more.
  func stopRecording() throws
}
