import LangevinCPU
import LangevinTensor
import Synchronization
import Testing

/// Holds memory and computes nothing but what it is told it can.
private final class Bare: ForwardingBackend {
  let name = "bare"
  let base: any Backend = CPUBackend()
  private let supported: @Sendable (Operation) -> Bool

  init(supporting supported: @escaping @Sendable (Operation) -> Bool = { _ in false }) {
    self.supported = supported
  }

  func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool { supported(operation) }
}

/// A wrapper with nothing of its own.
private final class Plain: ForwardingBackend {
  let base: any Backend
  init(_ base: any Backend) { self.base = base }
}

@Suite struct DeviceTests {
  @Test func aForwardingBackendPassesEverythingOn() throws {
    let cpu = CPUBackend()
    let plain = Plain(cpu)
    let device = Device(plain)
    #expect(plain.name == "cpu" && plain.supports(.geglu, inputs: []))
    let shape = WeightShape(taps: 9, channels: 3, columns: 4)
    #expect(plain.packedByteCount(shape, .float16) == 9 * 3 * 4 * 2)
    let adopted = [Float](repeating: 1, count: 16).withUnsafeBytes { bytes in plain.adopt(bytes, owner: cpu) }
    #expect(adopted?.storage.byteCount == 64 && adopted?.byteOffset == 0)
    plain.releaseCachedMemory()
    #expect(cpu.memory.cached == 0)
    try plain.startRecording()
    let x = try float32([1, 2], [2], on: device)
    #expect(try (x + x).floats() == [2, 4])
    #expect(try plain.takeRecords().map(\.kernel) == ["add"])
    #expect(try plain.takeTransfers().map(\.direction) == [.upload, .download])
    try plain.stopRecording()
    #expect(try (x + x).floats() == [2, 4] && cpu.takeRecords().isEmpty)
    #expect(plain.memory == cpu.memory && cpu.memory.inUse > 0)
  }

  @Test func anIdleBackendReadsAsZeros() throws {
    final class Idle: IdleBackend { let name = "idle" }
    let device = Device(Idle())
    let x = try float32([1, 2], [2], on: device)
    #expect(try (x + x).floats() == [0, 0])
    #expect(throws: TensorError.self) { try device.backend.startRecording() }
  }

  @Test func fallbacksAreCounted() throws {
    let device = Device(Bare(), fallback: CPUBackend())
    let x = try float32([1, 2, 3, 4], [2, 2], on: device)
    let y = try (x + x).rows(1..<2)
    #expect(try y.silu().shape == [1, 2])
    #expect(try (x + x).floats() == [2, 4, 6, 8])
    #expect(device.fallbacks.operations == 3)
    #expect(device.fallbacks.byName == ["add": 2, "silu": 1])
    #expect(device.fallbacks.bytes == 2 * 3 * 16 + 2 * 8)
  }

  @Test func whatIsSupportedDoesNotFallBack() throws {
    let device = Device(Bare(supporting: { $0 == .binary(.add) }), fallback: CPUBackend())
    let x = try float32([1, 2], [2], on: device)
    #expect(try ((x + x) * x).floats() == [2, 8])
    #expect(device.fallbacks.byName == ["multiply": 1])
  }

  @Test func withoutAFallbackItIsAnError() throws {
    let device = Device(Bare())
    let x = try float32([1], [1], on: device)
    #expect(throws: TensorError.unsupported(operation: "silu", inputs: [x.spec], device: "bare")) {
      try x.silu()
    }
    #expect(device.fallbacks.operations == 0)
  }

  @Test func auditNamesTheOperation() throws {
    let device = Device(CPUBackend())
    let x = try float32([0, 1, 0], [3], on: device)
    #expect(try x.map(.reciprocal).nonFiniteCount() == 2)
    device.audit = true
    #expect(throws: TensorError.nonFinite(operation: "reciprocal", output: x.spec, count: 2)) {
      try x.map(.reciprocal)
    }
    #expect(try x.map(.exp).shape == [3])
  }

  /// A backend that cannot count is not excused from the audit.
  @Test(arguments: [DType.float32, .float16, .bfloat16])
  func auditCountsOnTheHostToo(dtype: DType) throws {
    let device = Device(Bare { $0.kind == .cast || $0.kind == .unary })
    let x = try float32([0, 1, 0, -1], [4], on: device).cast(to: dtype)
    device.audit = true
    #expect(throws: TensorError.nonFinite(operation: "reciprocal", output: x.spec, count: 2)) {
      try x.map(.reciprocal)
    }
    #expect(throws: TensorError.nonFinite(operation: "sqrt", output: x.spec, count: 1)) { try x.map(.sqrt) }
    #expect(try x.map(.exp).shape == [4])
  }

  @Test func operandsMustShareADevice() throws {
    let (a, b) = (Device(CPUBackend()), Device(CPUBackend()))
    let (x, y) = (try float32([1], [1], on: a), try float32([1], [1], on: b))
    #expect(throws: TensorError.deviceMismatch(operation: "add", devices: ["cpu", "cpu"])) { try x + y }
    #expect(try (x + y.copied(to: a)).floats() == [2])
  }

  @Test func theObserverSeesEveryOperation() throws {
    let device = Device(CPUBackend())
    let seen = Mutex<[String]>([])
    device.observe { event in seen.withLock { $0.append(event.operation.name) } }
    let x = try float32([1, 2], [2], on: device)
    _ = try (x * 2).silu()
    device.observe(nil)
    _ = try x.silu()
    #expect(seen.withLock { $0 } == ["affine", "silu"])
  }

  @Test func memoryIsCounted() throws {
    let backend = CPUBackend()
    let device = Device(backend)
    #expect(backend.memory.inUse == 0)
    #expect(backend.memory.limit > 1 << 28)
    do {
      let x = try Tensor.fill(1, [1024, 1024], on: device)
      #expect(backend.memory.inUse == 4 << 20)
      let y = try (x + x)
      #expect(backend.memory.inUse == 8 << 20)
      withExtendedLifetime((x, y)) {}
    }
    let after = backend.memory
    #expect(after.inUse == 0)
    #expect(after.highWater == 8 << 20)
    #expect(after.cached == 8 << 20)
    // What was freed serves again.
    let x = try Tensor.fill(1, [1024, 1000], on: device)
    #expect(backend.memory.cached == 4 << 20)
    #expect(try x.rows(3..<4).floats() == [Float](repeating: 1, count: 1000))
  }

  @Test func anExhaustedDeviceSaysSo() throws {
    let backend = CPUBackend(memoryLimit: 1 << 20)
    let device = Device(backend)
    let x = try Tensor.fill(0, [150_000], on: device)
    #expect {
      try Tensor.fill(0, [150_000], on: device)
    } throws: { error in
      guard case TensorError.outOfMemory("cpu", let requested, let inUse, let limit) = error else {
        return false
      }
      return requested == 600_000 && inUse >= 600_000 && limit == 1 << 20
    }
    withExtendedLifetime(x) {}
    // Memory that is only cached does not count against the limit.
    do { _ = try Tensor.fill(0, [1000], on: device) }
    _ = try Tensor.fill(0, [90_000], on: device)
    #expect(backend.memory.inUse < 700_000)
  }

  /// What would index past the end of an array throws instead.
  @Test func badCallsThrow() throws {
    let device = Device(CPUBackend())
    let x = try float32([1, 2, 3, 4], [2, 2], on: device)
    let scalar = try float32([1], [], on: device)
    func refusal(_ body: () throws -> Any) -> String? {
      do {
        _ = try body()
        return nil
      } catch TensorError.invalidOperands(let operation, _, let reason) {
        return "\(operation): \(reason)"
      } catch {
        return "another error: \(error)"
      }
    }
    #expect(refusal { try Tensor.concatenated([], axis: 0) } == "concatenate: needs an input")
    #expect(refusal { try Tensor.concatenated([x], axis: 2) } == "concatenate: axis 2 does not exist")
    #expect(refusal { try Tensor.combination([]) } == "linear_combination: takes 1 to 8 terms")
    #expect(refusal { try x.int32s() } == "int32s: the dtype is not int32")
    for axis in [2, -3] {
      #expect(refusal { try x.sliced(0..<1, axis: axis) } == "slice: axis \(axis) does not exist")
      #expect(refusal { try x.reduced(.sum, axes: [axis]) } != nil)
      #expect(refusal { try Tensor.concatenated([x, x], axis: axis) } != nil)
    }
    #expect(refusal { try x.sliced(1..<3, axis: 0) } == "rows: rows 1..<3 of the first axis do not exist")
    #expect(refusal { try x.sliced(1..<3, axis: -1) } == "slice: axis 1 has no elements 1..<3")
    #expect(refusal { try x.sliced(-1..<1, axis: 1) } == "slice: axis 1 has no elements -1..<1")
    #expect(refusal { try scalar.sliced(0..<1, axis: 0) } == "slice: axis 0 does not exist")
    #expect(refusal { try scalar.attention(keys: scalar, values: scalar, heads: 1) } != nil)
    #expect(refusal { try Tensor.apply(.fill(1, x.spec), []) } == "fill: without inputs it needs a device")
    #expect(try Tensor.concatenated([x], axis: -1).floats() == [1, 2, 3, 4])
  }

  @Test func valuesMustFillTheShape() {
    let device = Device(CPUBackend())
    #expect(throws: TensorError.valueCount(expected: 4, got: 3, shape: [2, 2])) {
      try float32([1, 2, 3], [2, 2], on: device)
    }
  }
}
