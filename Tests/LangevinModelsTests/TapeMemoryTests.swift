import LangevinCPU
import LangevinTensor
import Testing

/// What a backward pass holds at once, of tensors alone.
@Suite struct TapeMemoryTests {
  private static let size = 1 << 18
  private static let bytes = 4 * size

  /// A chain of layers, each a product with a parameter and an activation.
  private func run(_ backend: CountingBackend, layers: Int, recomputing: Bool) throws -> [Tensor?] {
    let device = Device(backend)
    let tape = Tape()
    let x = tape.watch(try .fill(0.5, [Self.size], on: device))
    let weights = try (0..<layers).map { tape.watch(try .fill(1 + Float($0) / 64, [Self.size], on: device)) }
    var h = x
    for weight in weights {
      let block: @Sendable (Tensor) throws -> Tensor = { h in try (h * weight).silu() }
      h = recomputing ? try h.recomputing(block) : try block(h)
    }
    let loss = try h.reduced(.mean, axes: [0])
    h = loss
    return try tape.gradients(of: loss, at: [x] + weights)
  }

  @Test func theBackwardPassOfALongChainHoldsWhatItReadsAndNoMore() throws {
    let layers = 40
    let backend = CountingBackend(CPUBackend())
    _ = try run(backend, layers: layers, recomputing: false)
    // The parameters; of each layer its input and what the activation reads. Gradients take the place of what is let go.
    let exact = (layers + 2 * layers + 1) * Self.bytes
    #expect(Double(backend.peak) < 1.3 * Double(exact), "\(Double(backend.peak) / Double(exact))")
    #expect(Double(backend.peak) > 0.9 * Double(exact))
  }

  @Test func recomputedBlocksHoldTheirInputsAlone() throws {
    let layers = 40
    let backend = CountingBackend(CPUBackend())
    _ = try run(backend, layers: layers, recomputing: true)
    let exact = (layers + layers + 1) * Self.bytes
    #expect(Double(backend.peak) < 1.3 * Double(exact), "\(Double(backend.peak) / Double(exact))")
  }

  @Test func memoryStaysFlatOverManySteps() throws {
    let backend = CountingBackend(CPUBackend())
    let device = Device(backend)
    var state = try Tensor(firstState: [4, 64, 64], on: device)
    let x = try Tensor.normal([32, 64], seed: 1, on: device)
    let scale = try Tensor.fill(1, [1], on: device)
    var use: [Int: [Int]] = [:]
    var losses: [Float] = []
    for step in 1...500 {
      let tape = Tape()
      let weight = tape.watch(try state.rows(0..<1).reshaped([64, 64]))
      let error = try x.matmul(weight).silu() - x
      let loss = try (error * error).reduced(.mean, axes: [0, 1]).reshaped([1])
      let gradient = try #require(try tape.gradients(of: loss, at: [weight])[0])
      state = try Tensor.apply(.adamW(AdamW(step: step, rate: 1e-2)), [state, gradient, scale])
      if step == 10 || step == 500 { use[step] = [backend.peak, backend.inUse] }
      if step % 100 == 0 || step == 1 { losses.append(try loss.floats()[0]) }
    }
    #expect(use[10] == use[500], "\(use)")
    // It learns meanwhile.
    #expect(try #require(losses.last) < 0.5 * losses[0], "\(losses)")
  }
}

extension Tensor {
  /// An optimizer's first state: small values, and no means yet.
  fileprivate init(firstState shape: Shape, on device: Device) throws {
    let values = try Tensor.normal(shape.replacing(axis: 0, with: 1), seed: 3, on: device) * 0.05
    let rest = try Tensor.fill(0, shape.replacing(axis: 0, with: 3), on: device)
    self = try Tensor.concatenated([values, rest], axis: 0)
  }
}
