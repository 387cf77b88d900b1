import LangevinTensor
import Synchronization

/// Float64 as a backend: whole models and their gradients run in double precision, whatever their tensors' dtype says.
/// What it computes is what `Reference` defines; it is slow.
public final class ReferenceBackend: Backend {
  /// `float64`.
  public let name = "float64"
  /// What `devices` would say of it.
  public var identity: BackendIdentity { BackendIdentity(title: "the definitions in double precision") }

  /// A backend without tensors.
  public init() {}

  /// The elements of a tensor of this backend in full precision.
  ///
  /// Throws `TensorError.deviceFailure` for another backend's.
  public static func values(of tensor: Tensor) throws -> [Double] { try array(tensor.view).values }

  private static func storage(_ storage: any Storage) throws -> ReferenceStorage {
    guard let storage = storage as? ReferenceStorage else {
      throw TensorError.deviceFailure(
        device: "float64", operation: "reference", reason: "the memory is another device's")
    }
    return storage
  }

  private static func array(_ view: TensorView) throws -> HostArray {
    HostArray(view.spec, try storage(view.storage).values(view.offset, view.spec))
  }

  // MARK: Backend

  public var memory: MemoryUse { MemoryUse() }
  /// Nothing is kept.
  public func releaseCachedMemory() {}
  public func allocate(byteCount: Int) throws -> any Storage { ReferenceStorage(byteCount: byteCount) }

  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> AdoptedMemory? {
    nil
  }

  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    try Self.storage(storage).write(bytes, at: byteOffset)
  }

  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    try Self.storage(storage).read(into: bytes, at: byteOffset)
  }

  public func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? {
    shape.rows * shape.columns * dtype.byteCount
  }

  /// Row-major.
  public func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    let values = try Self.array(source).values
    let spec = TensorSpec([shape.rows, shape.columns], source.dtype)
    let matrix = (0..<spec.shape.count).map { element in
      let (row, column) = (element / shape.columns, element % shape.columns)
      let (tap, channel) = (row / shape.channels, row % shape.channels)
      return values[(column * shape.channels + channel) * shape.taps + tap]
    }
    let storage = ReferenceStorage(byteCount: spec.byteCount)
    try storage.set(HostArray(spec, matrix), at: 0)
    return TensorView(storage: storage, offset: 0, spec: spec)
  }

  public func unpack(_ weight: TensorView, into output: TensorView) throws {
    try Self.storage(output.storage).set(Self.array(weight), at: output.offset)
  }

  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool { true }

  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    let result = try Reference.evaluate(operation, inputs.map(Self.array))
    try Self.storage(output.storage).set(result, at: output.offset)
  }

  public func synchronize() throws {}

  private var cannotRecord: TensorError {
    .deviceFailure(device: name, operation: "recording", reason: "the backend does not record its kernels")
  }
  public func startRecording() throws { throw cannotRecord }
  public func takeRecords() throws -> [KernelRecord] { throw cannotRecord }
  public func takeTransfers() throws -> [TransferRecord] { throw cannotRecord }
  public func stopRecording() throws { throw cannotRecord }
}

/// Bytes as they were uploaded, until an operation writes numbers.
private final class ReferenceStorage: Storage {
  private enum Content {
    case bytes([UInt8])
    case values(HostArray)
  }

  let byteCount: Int
  private let content: Mutex<Content>

  init(byteCount: Int) {
    self.byteCount = byteCount
    content = Mutex(.bytes([UInt8](repeating: 0, count: byteCount)))
  }

  func values(_ offset: Int, _ spec: TensorSpec) -> [Double] {
    content.withLock { content in
      switch content {
      case .values(let array): return Array(array.values[offset..<offset + spec.shape.count])
      case .bytes(let bytes):
        return bytes.withUnsafeBytes { bytes in
          (0..<spec.shape.count).map { Operand.element(bytes, offset + $0, spec.dtype) }
        }
      }
    }
  }

  /// An operation's output fills its storage.
  func set(_ array: HostArray, at offset: Int) throws {
    guard offset == 0 else {
      throw TensorError.deviceFailure(
        device: "float64", operation: "reference", reason: "an output begins within its memory")
    }
    content.withLock { $0 = .values(array) }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    content.withLock { content in
      var all = encoded(content)
      all.replaceSubrange(offset..<offset + bytes.count, with: bytes)
      content = .bytes(all)
    }
  }

  func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws {
    content.withLock { bytes.copyBytes(from: encoded($0)[offset..<offset + bytes.count]) }
  }

  /// Rounded to the dtype that the numbers stand for.
  private func encoded(_ content: Content) -> [UInt8] {
    switch content {
    case .bytes(let bytes): return bytes
    case .values(let array):
      let bytes = Operand(array).bytes
      return bytes + [UInt8](repeating: 0, count: max(0, byteCount - bytes.count))
    }
  }
}
