import LangevinCPU
import LangevinTensor
import LangevinValidation
import Synchronization
import Testing

@Suite struct TapeTests {
  private let device = Device(CPUBackend())

  private func tensor(_ values: Float...) throws -> Tensor { try Tensor(values, [values.count], on: device) }

  @Test func aNumberThatIsUsedTwiceGetsBothGradients() throws {
    let x = try tensor(3, -2)
    let (value, gradient) = try valueWithGradient(at: ["x": x]) { leaves in
      let x = leaves["x"] ?? x
      return try (x * x * x + x * 2).reduced(.sum, axes: [0])
    }
    #expect(try value.floats() == [27 + 6 - 8 - 4])
    #expect(try gradient["x"]?.floats() == [29, 14])
  }

  @Test func viewsPassGradients() throws {
    let tape = Tape()
    let x = tape.watch(try Tensor((0..<6).map { Float($0) }, [3, 2], on: device))
    let y = try x.rows(1..<3).reshaped([2, 2]).transposed([1, 0]).rows(0..<1)
    let loss = try (y * y).reduced(.sum, axes: [0, 1])
    #expect(try tape.gradients(of: loss, at: [x])[0]?.floats() == [0, 0, 4, 0, 8, 0])
  }

  @Test func constantsAreNotRecordedAndLeakedTensorsAreConstants() throws {
    let tape = Tape()
    let x = tape.watch(try tensor(2))
    let kept = try x * x
    _ = try tape.gradients(of: kept, at: [x])
    // The tape is used up: what is left of it counts as a constant.
    let other = Tape()
    let y = other.watch(try tensor(5))
    #expect(try other.gradients(of: kept * y, at: [y])[0]?.floats() == [4])
  }

  @Test func whatCannotBeDifferentiatedIsSaid() throws {
    let (tape, other) = (Tape(), Tape())
    let (x, y) = (tape.watch(try tensor(1, 2)), other.watch(try tensor(3, 4)))
    #expect(throws: GradientError.twoTapes(operation: "multiply")) { try x * y }
    #expect(throws: GradientError.lossIsNotOneNumber(TensorSpec([2]))) {
      try tape.gradients(of: x * 2, at: [x])
    }
    #expect(throws: GradientError.untracedLoss(TensorSpec([1]))) {
      try Tape().gradients(of: tensor(1), at: [])
    }
    let second = Tape()
    let z = second.watch(try tensor(1))
    #expect(throws: GradientError.notDifferentiable(operation: "silu_gradient")) {
      try Tensor.apply(.unaryGradient(.silu), [z, z])
    }
    #expect(throws: GradientError.unreached(names: ["unused"])) {
      try valueWithGradient(at: ["used": tensor(1), "unused": tensor(2)]) { leaves in
        try leaves["used"].map { try $0 * 2 } ?? tensor(0)
      }
    }
  }

  @Test func aRecomputedBlockGivesTheSameGradientsAndRunsTwice() throws {
    let runs = Mutex(0)
    func gradient(_ recomputed: Bool) throws -> [[Float]] {
      let tape = Tape()
      let x = tape.watch(try tensor(0.5, -1.5, 2))
      let weight = tape.watch(try tensor(1.25, 0.5, -0.75))
      let block: @Sendable (Tensor) throws -> Tensor = { h in
        runs.withLock { $0 += 1 }
        return try (h * weight).silu() * h
      }
      var h = x
      for _ in 0..<3 { h = recomputed ? try h.recomputing(block) : try block(h) }
      // Blocks within blocks.
      h = recomputed ? try h.recomputing { try $0.recomputing(block) * weight } : try block(h) * weight
      let loss = try (h * h).reduced(.mean, axes: [0])
      return try tape.gradients(of: loss, at: [x, weight]).map { try $0?.floats() ?? [] }
    }
    let plain = try gradient(false)
    #expect(runs.withLock { $0 } == 4)
    let recomputed = try gradient(true)
    #expect(plain == recomputed)
    // Each once forward and once backward; the inner one of the last block once more.
    #expect(runs.withLock { $0 } == 4 + 9)
  }

  @Test func activationsOfProductsAreRecordedApart() throws {
    let a = try Tensor((0..<12).map { Float($0) * 0.1 - 0.5 }, [3, 4], on: device)
    let b = try Tensor((0..<8).map { 0.3 - Float($0) * 0.07 }, [4, 2], on: device)
    for activation in Activation.allCases {
      let tape = Tape()
      let (x, w) = (tape.watch(a), tape.watch(b))
      let fused = try x.matmul(w, activation: activation).reduced(.sum, axes: [0, 1]).reshaped([1])
      let gradients = try tape.gradients(of: fused, at: [x, w]).map { try $0?.floats() }
      let apart = Tape()
      let (u, v) = (apart.watch(a), apart.watch(b))
      let product = try u.matmul(v)
      let sum = try (activation.function.map { try product.map($0) } ?? product).reduced(.sum, axes: [0, 1])
      #expect(try apart.gradients(of: sum.reshaped([1]), at: [u, v]).map { try $0?.floats() } == gradients)
    }
  }
}
