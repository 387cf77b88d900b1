import Synchronization

/// Where tensors live: a backend, what it may fall back to, and what was counted on the way.
public final class Device: Sendable {
  /// The backend that computes this device's operations.
  public let backend: any Backend
  /// Runs what `backend` has no kernel for; nil makes that an error.
  public let fallback: (any Backend)?

  private let state = Mutex(State())

  private struct State {
    var fallbacks = FallbackCount()
    var decompositions: [String: Int] = [:]
    var audit = false
    var observer: (@Sendable (OperationEvent) -> Void)?
  }

  /// A device over a backend, strict unless a fallback is given.
  public init(_ backend: any Backend, fallback: (any Backend)? = nil) {
    self.backend = backend
    self.fallback = fallback
  }

  /// The backend's: `cpu`, `opencl:0`.
  public var name: String { backend.name }
  /// What ran elsewhere so far.
  public var fallbacks: FallbackCount { state.withLock { $0.fallbacks } }
  /// How many operations ran as simpler ones so far, by `Operation.name`: the backend has no kernel of their own.
  public var decompositions: [String: Int] { state.withLock { $0.decompositions } }

  /// While on, every operation's output is searched for NaN and infinity, and the first throws
  /// `TensorError.nonFinite`. Slow: it waits for each operation.
  public var audit: Bool {
    get { state.withLock { $0.audit } }
    set { state.withLock { $0.audit = newValue } }
  }

  /// Called after each operation has been handed to the backend.
  public func observe(_ observer: (@Sendable (OperationEvent) -> Void)?) {
    state.withLock { $0.observer = observer }
  }

  /// Runs an operation and returns its output. The one way by which anything is computed: it checks the
  /// operands, dispatches, counts what the backend has no kernel for and reports to the observer. Such an operation is
  /// decomposed into those that the backend has; the fallback is the last resort.
  func apply(_ operation: Operation, _ inputs: [Tensor]) throws -> Tensor {
    for input in inputs where input.device !== self {
      throw TensorError.deviceMismatch(operation: operation.name, devices: inputs.map(\.device.name))
    }
    let specs = inputs.map(\.spec)
    let spec = try operation.output(of: specs)
    let tape = try Tape.common(inputs, operation: operation.name)
    if tape != nil, let (plain, function) = operation.withoutActivation {
      // The function's rule reads what it is applied to.
      return try apply(.unary(function), [apply(plain, inputs)])
    }
    if spec.shape.count > 0, !backend.supports(operation, inputs: specs),
      let decomposed = try decompose(operation, inputs, output: spec)
    {
      return decomposed
    }
    let output = try Tensor(uninitialized: spec, on: self)
    if spec.shape.count > 0 {
      if backend.supports(operation, inputs: specs) {
        try backend.execute(operation, inputs: inputs.map(\.view), output: output.view)
      } else {
        try fallBack(operation, inputs: inputs, output: output)
      }
    }
    let (audit, observer) = state.withLock { ($0.audit, $0.observer) }
    observer?(OperationEvent(operation: operation, inputs: specs, output: spec, path: LayerPath.current))
    if audit { try check(operation, output) }
    return try tape?.record(operation, inputs, output) ?? output
  }

  /// The operation by simpler ones, in float32 with one rounding at the end as all arithmetic is; nil for a primitive.
  private func decompose(_ operation: Operation, _ inputs: [Tensor], output: TensorSpec) throws -> Tensor? {
    if operation.packedInput != nil {
      return try apply(operation.onRowMajor, operation.unpacking(inputs))
    }
    guard let decomposition = operation.definition.decomposition else { return nil }
    state.withLock { $0.decompositions[operation.name, default: 0] += 1 }
    let wide = try inputs.map { $0.dtype.isFloatingPoint ? try $0.cast(to: .float32) : $0 }
    return try decomposition(wide).cast(to: output.dtype)
  }

  private func fallBack(_ operation: Operation, inputs: [Tensor], output: Tensor) throws {
    guard let fallback, fallback.supports(operation, inputs: inputs.map(\.spec)) else {
      throw TensorError.unsupported(operation: operation.name, inputs: inputs.map(\.spec), device: name)
    }
    let copies = try inputs.map { input in
      let storage = try fallback.allocate(byteCount: input.spec.byteCount)
      try input.withBytes { try fallback.upload($0, to: storage, byteOffset: 0) }
      return TensorView(storage: storage, offset: 0, spec: input.spec)
    }
    let result = TensorView(
      storage: try fallback.allocate(byteCount: output.spec.byteCount), offset: 0, spec: output.spec)
    try fallback.execute(operation, inputs: copies, output: result)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: output.spec.byteCount, alignment: 64)
    defer { bytes.deallocate() }
    try fallback.download(result.storage, byteOffset: 0, into: bytes)
    try backend.upload(UnsafeRawBufferPointer(bytes), to: output.storage, byteOffset: 0)
    let copied = inputs.reduce(output.spec.byteCount) { $0 + $1.spec.byteCount }
    state.withLock { $0.fallbacks.add(operation.name, bytes: copied) }
  }

  private func check(_ operation: Operation, _ output: Tensor) throws {
    guard output.dtype.isFloatingPoint, output.shape.count > 0 else { return }
    let count = Operation.nonFiniteCount
    let found: Int
    if backend.supports(count, inputs: [output.spec]) {
      let result = try Tensor(uninitialized: TensorSpec([1], .int32), on: self)
      try backend.execute(count, inputs: [output.view], output: result.view)
      found = Int(try result.int32s()[0])
    } else {
      found = try output.withBytes { nonFiniteCount(in: $0, of: output.dtype) }
    }
    guard found == 0 else {
      throw TensorError.nonFinite(operation: operation.name, output: output.spec, count: found)
    }
  }
}

/// NaN and infinity have all bits of the exponent set; counted on the host, whatever a backend can do.
private func nonFiniteCount(in bytes: UnsafeRawBufferPointer, of dtype: DType) -> Int {
  switch dtype {
  case .float32: bytes.bindMemory(to: UInt32.self).count { $0 & 0x7F80_0000 == 0x7F80_0000 }
  case .float16: bytes.bindMemory(to: UInt16.self).count { $0 & 0x7C00 == 0x7C00 }
  case .bfloat16: bytes.bindMemory(to: UInt16.self).count { $0 & 0x7F80 == 0x7F80 }
  case .int32: 0
  }
}

/// One operation, as the observer sees it.
public struct OperationEvent: Sendable {
  /// The operation with its parameters.
  public let operation: Operation
  /// In the operation's order.
  public let inputs: [TensorSpec]
  /// As shape inference gave it.
  public let output: TensorSpec
  /// The layer that computes; empty outside layers.
  public let path: String
}

/// What ran elsewhere than on the chosen device.
public struct FallbackCount: Sendable, Hashable {
  /// How many operations the fallback computed.
  public private(set) var operations = 0
  /// Copied to the fallback and back.
  public private(set) var bytes = 0
  /// How many by `Operation.name`.
  public private(set) var byName: [String: Int] = [:]

  /// Counts that are all zero.
  public init() {}

  mutating func add(_ name: String, bytes copied: Int) {
    operations += 1
    bytes += copied
    byName[name, default: 0] += 1
  }
}
