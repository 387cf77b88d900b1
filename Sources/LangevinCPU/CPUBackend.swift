import CVectorMath
import Glibc
import LangevinTensor

/// The reference and the fallback: every operation in every dtype, over OpenBLAS and all cores. Everything is
/// done when a call returns. float16 and bfloat16 are storage only: inputs are widened to float32, the output
/// is rounded once.
public final class CPUBackend: Backend {
  /// What the backend is called: `cpu`.
  public let name = "cpu"
  let pool: MemoryPool
  let log = RecordLog()

  /// `memoryLimit` in bytes; by default the machine's physical memory.
  public init(memoryLimit: Int? = nil) {
    let physical = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    pool = MemoryPool(device: name, limit: memoryLimit ?? physical)
  }

  /// Bytes in use, kept for reuse and at most; the limit is the physical memory or what was given.
  public var memory: MemoryUse { pool.use }

  /// Memory for `byteCount` bytes, aligned for vectors. Throws `TensorError.outOfMemory`.
  public func allocate(byteCount: Int) throws -> any Storage { try pool.allocate(byteCount: byteCount) }
  /// Gives back what the pool keeps.
  public func releaseCachedMemory() { pool.trim() }

  /// A checkpoint's mapping serves as it is: loading is then a matter of page faults.
  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> AdoptedMemory? {
    guard let start = bytes.baseAddress, Int(bitPattern: start) % 4 == 0 else { return nil }
    return AdoptedMemory(
      CPUStorage(byteCount: bytes.count, borrowed: UnsafeMutableRawPointer(mutating: start), owner: owner))
  }

  /// Copies host bytes into a storage, from `byteOffset` on.
  public func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    guard let base = bytes.baseAddress else { return }
    let to = try memory(of: storage, "upload").advanced(by: byteOffset)
    recordCopy(.upload, bytes.count) { to.copyMemory(from: base, byteCount: bytes.count) }
  }

  /// Copies a storage's bytes, from `byteOffset` on, to the host.
  public func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer)
    throws
  {
    guard let base = bytes.baseAddress else { return }
    let from = try memory(of: storage, "download").advanced(by: byteOffset)
    recordCopy(.download, bytes.count) { base.copyMemory(from: from, byteCount: bytes.count) }
  }

  /// Returns at once: `execute` has computed everything.
  public func synchronize() throws {}

  /// Always: the CPU is total.
  public func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool { true }

  /// Computes into `output` before it returns. Throws `TensorError`.
  public func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    guard output.shape.count > 0 else { return }
    try record(operation, inputs, output) { try compute(operation, inputs, output) }
  }

  private func compute(_ operation: Operation, _ inputs: [TensorView], _ output: TensorView) throws {
    func arithmetic(_ body: ([FloatArray], MutableFloatArray) throws -> Void) throws {
      try asFloats(inputs, output, body)
    }
    /// For operations that compute each row of the output from the same row of input 0.
    func rows(_ body: ([FloatArray], MutableFloatArray) -> Void) throws {
      try asFloatsByRows(inputs, output, body)
    }
    /// For operations made of products. Throws where OpenBLAS does not load.
    func products(_ body: ([FloatArray], MutableFloatArray) throws -> Void) throws {
      if case .failure(let error) = BLAS.shared {
        throw TensorError.deviceFailure(device: name, operation: operation.name, reason: error.description)
      }
      try asFloats(
        inputs, output, keeping: operation.operandsKept(inputs),
        roundsItself: operation.roundsItself(inputs), body)
    }
    let (x, y) = (try inputs.map { try raw($0, operation) }, try raw(output, operation))
    switch operation {
    case .matmul(let matmul): try products { try self.matmul(matmul, $0, $1) }
    case .conv2d(let conv): try products { try conv2d(conv, $0, $1) }
    case .attention(let attention): try products { try self.attention(attention, $0, $1) }
    case .groupNorm(let norm): try arithmetic { try groupNorm(norm, $0, $1) }
    case .layerNorm(let norm): try rows { layerNorm(norm, $0, $1) }
    case .rmsNorm(let epsilon): try rows { rmsNorm(epsilon, $0, $1) }
    case .rotary(let rotary): try arithmetic { self.rotary(rotary, $0, $1) }
    case .softmax: try arithmetic { softmax($0[0], $1) }
    case .unary(let function): try arithmetic { unary(function, $0[0], $1) }
    case .affine(let scale, let offset): try arithmetic { affine(scale, offset, $0[0], $1) }
    case .clamp(let lower, let upper): try arithmetic { clamp(lower, upper, $0[0], $1) }
    case .geglu: try rows { geglu($0[0], $1) }
    case .binary(let function): try arithmetic { binary(function, $0[0], $0[1], $1) }
    case .linearCombination(let coefficients): try arithmetic { linearCombination(coefficients, $0, $1) }
    case .reduce(let reduce): try arithmetic { try self.reduce(reduce, $0[0], $1) }
    case .embedding: try embedding(x[0], x[1], y)
    case .transpose(let permutation): transpose(permutation, x[0], y)
    case .broadcast: broadcast(x[0], y)
    case .slice(let slice): self.slice(slice, x[0], y)
    case .concatenate(let axis): concatenate(axis, x, y)
    case .pad(let pad): self.pad(pad, x[0], y)
    case .upsampleNearest(let factor): upsampleNearest(factor, x[0], y)
    case .cast: try cast(x[0], y)
    case .normalNoise(let noise): normalNoise(noise, y)
    case .fill(let value, _): fill(value, y)
    case .unaryGradient(let function): try arithmetic { unaryGradient(function, $0[0], $0[1], $1) }
    case .conv2dWeightGradient(let conv): try products { try conv2dWeightGradient(conv, $0, $1) }
    case .attentionGradient(let attention): try products { try attentionGradient(attention, $0, $1) }
    case .groupNormGradient(let norm): try arithmetic { try groupNormGradient(norm, $0, $1) }
    case .layerNormGradient(let norm): try arithmetic { try layerNormGradient(norm, $0, $1) }
    case .rmsNormGradient(let epsilon): try arithmetic { try rmsNormGradient(epsilon, $0, $1) }
    case .gegluGradient: try arithmetic { gegluGradient($0[0], $0[1], $1) }
    case .embeddingGradient(let rows):
      try asFloats([inputs[1]], output) { try embeddingGradient(rows: rows, ids: x[0], $0[0], $1) }
    case .adamW(let step): try arithmetic { adamW(step, $0, $1) }
    case .nonFiniteCount: try nonFiniteCount(x[0], y)
    case .dequantize(let encoding): dequantize(encoding, x[0], y)
    }
  }

  /// Runs `body` on float32 operands: the tensors themselves, or scratch that is converted on the way in and
  /// rounded on the way out. The inputs `keeping` come as they are stored, and so does the output where `body` rounds.
  private func asFloats(
    _ inputs: [TensorView], _ output: TensorView, keeping: Set<Int> = [], roundsItself: Bool = false,
    _ body: ([FloatArray], MutableFloatArray) throws -> Void
  ) throws {
    var scratch: [CPUStorage] = []
    let arrays = try inputs.enumerated().map { index, input in
      let array = try raw(input, "operand")
      if input.dtype == .float32 || keeping.contains(index) {
        return FloatArray(pointer: array.floats, shape: input.shape, dtype: input.dtype)
      }
      let wide = try pool.scratch(input.shape.count)
      scratch.append(wide)
      widen(array, wide.floats)
      return FloatArray(pointer: UnsafePointer(wide.floats), shape: input.shape)
    }
    let result = try raw(output, "operand")
    if output.dtype == .float32 || roundsItself {
      try body(arrays, MutableFloatArray(pointer: result.floats, shape: output.shape))
    } else {
      let wide = try pool.scratch(output.shape.count)
      try body(arrays, MutableFloatArray(pointer: wide.floats, shape: output.shape))
      round(wide.floats, result)
    }
    // Scratch must outlive the pointers taken from it.
    withExtendedLifetime(scratch) {}
  }

  /// As `asFloats`, some rows after others, which are converted while they are in a cache.
  private func asFloatsByRows(
    _ inputs: [TensorView], _ output: TensorView, _ body: ([FloatArray], MutableFloatArray) -> Void
  ) throws {
    guard output.dtype != .float32 else { return try asFloats(inputs, output, body) }
    let (source, target) = (try raw(inputs[0], "operand"), try raw(output, "operand"))
    let (read, written) = (inputs[0].shape[-1], output.shape[-1])
    let rowCount = output.shape.count / written
    let grain = max(elementGrain / max(read, written), 1)
    let workers = workerCount(rowCount, grain: grain)
    let scratch = try pool.scratch(workers * grain * (read + written))
    // The others are vectors of a row's length.
    try asFloats(Array(inputs.dropFirst()), output, roundsItself: true) { others, _ in
      parallelFor(rowCount, grain: grain) { worker, rows in
        let wide = scratch.floats + worker * grain * (read + written)
        let out = wide + grain * read
        source.widened(rows.lowerBound * read, rows.count * read, wide)
        let first = FloatArray(pointer: wide, shape: [rows.count, read])
        body([first] + others, MutableFloatArray(pointer: out, shape: [rows.count, written]))
        target.rounded(out, rows.lowerBound * written, rows.count * written)
      }
    }
    withExtendedLifetime(scratch) {}
  }

  func memory(of storage: any Storage, _ what: String) throws -> UnsafeMutableRawPointer {
    guard let storage = storage as? CPUStorage else {
      throw TensorError.deviceFailure(device: name, operation: what, reason: "the memory is another device's")
    }
    return storage.pointer
  }

  private func raw(_ view: TensorView, _ operation: Operation) throws -> RawArray {
    try raw(view, operation.name)
  }

  func raw(_ view: TensorView, _ what: String) throws -> RawArray {
    RawArray(pointer: try memory(of: view.storage, what).advanced(by: view.byteOffset), spec: view.spec)
  }
}

/// An operand in memory, as it is stored.
struct RawArray {
  let pointer: UnsafeMutableRawPointer
  let spec: TensorSpec

  var shape: Shape { spec.shape }
  var count: Int { spec.shape.count }
  /// Whether an element has 16 bits.
  var isNarrow: Bool { spec.dtype.byteCount == 2 }
  var floats: UnsafeMutablePointer<Float> { pointer.assumingMemoryBound(to: Float.self) }
  var shorts: UnsafeMutablePointer<UInt16> { pointer.assumingMemoryBound(to: UInt16.self) }
  var words: UnsafeMutablePointer<UInt32> { pointer.assumingMemoryBound(to: UInt32.self) }
  var ints: UnsafeMutablePointer<Int32> { pointer.assumingMemoryBound(to: Int32.self) }
}

/// The elements of an operand as float32: a view of its memory, or a widened copy. Of an operand that an operation keeps,
/// its memory as it is stored, in another dtype.
struct FloatArray {
  let pointer: UnsafePointer<Float>
  let shape: Shape
  let dtype: DType

  init(pointer: UnsafePointer<Float>, shape: Shape, dtype: DType = .float32) {
    (self.pointer, self.shape, self.dtype) = (pointer, shape, dtype)
  }
  init(pointer: UnsafeMutablePointer<Float>, shape: Shape, dtype: DType = .float32) {
    self.init(pointer: UnsafePointer(pointer), shape: shape, dtype: dtype)
  }
}

/// Where a result's elements go as float32, before they are rounded to its dtype.
struct MutableFloatArray {
  let pointer: UnsafeMutablePointer<Float>
  let shape: Shape
}
