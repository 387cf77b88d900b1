import LangevinCPU
import LangevinTensor
import LangevinValidation
import Testing

@Suite struct AgreementTests {
  let device = Device(CPUBackend())

  private static let operations = Set(OperationCases.edge.map { $0.operation(.float32).name }).sorted()

  @Test(arguments: operations, [DType.float32, .float16, .bfloat16])
  func edgeCasesAgreeWithFloat64(operation: String, dtype: DType) throws {
    let cases = OperationCases.edge.filter { $0.operation(.float32).name == operation }
    #expect(!cases.isEmpty)
    for test in cases {
      let agreement = try Agreement.check(test, on: device, dtype: dtype, seed: 1)
      #expect(agreement.passes, "\(agreement)")
    }
  }

  /// The table's checker must notice a wrong element: a sum that misses one of its terms.
  @Test func toleranceSeesAMissingTerm() throws {
    for test in OperationCases.edge {
      guard case .matmul(let matmul) = test.operation(.float32), test.inputs[0].shape.count > 100 else {
        continue
      }
      // A denormal term may be flushed to zero, and one of zeros is.
      if test.kinds.contains(.denormal) || test.kinds.contains(.constant(0)) { continue }
      var inputs = test.arrays(dtype: .float32, seed: 3)
      let whole = try Reference.evaluate(.matmul(matmul), inputs)
      inputs[0] = HostArray(inputs[0].spec, [0] + inputs[0].values.dropFirst())
      let device = Device(CPUBackend())
      let got = try HostArray(
        Tensor.apply(.matmul(matmul), inputs.map { try $0.tensor(on: device) }, on: device))
      let agreement = try Agreement.compare(test, dtype: .float32, got: got, with: whole, seed: 3)
      #expect(!agreement.passes, "\(agreement)")
    }
  }

  @Test func queriesThatSeeNoKeyGiveZeros() throws {
    let q = try float32([Float](repeating: 1, count: 8), [1, 2, 4], on: device)
    let mask = try float32([0, 0, -.infinity, -.infinity], [2, 2], on: device)
    let y = try q.attention(keys: q, values: q, heads: 1, mask: mask).floats()
    #expect(y == [1, 1, 1, 1, 0, 0, 0, 0])
  }

  @Test func finiteMasksOfTheLargestNumbersGiveAMean() throws {
    let q = try float32([Float](repeating: 0, count: 2), [1, 1, 2], on: device)
    let kv = try float32([1, 2, 3, 4], [1, 2, 2], on: device)
    let mask = try float32([-.greatestFiniteMagnitude, -.greatestFiniteMagnitude], [1, 2], on: device)
    #expect(try q.attention(keys: kv, values: kv, heads: 1, mask: mask).floats() == [2, 3])
  }

  @Test func notANumberPassesThrough() throws {
    let x = try float32([.nan, 1, -.infinity, .infinity], [4], on: device)
    for function in Unary.allCases { #expect(try x.map(function).floats()[0].isNaN, "\(function)") }
    #expect(try x.map(.exp).floats()[2...] == [0, .infinity])
    #expect(try x.map(.gelu).floats()[3] == .infinity)
    #expect(try x.map(.silu).floats()[3] == .infinity)
    #expect(try x.map(.sigmoid).floats()[2...] == [0, 1])
    #expect(try x.map(.tanh).floats()[2...] == [-1, 1])
    #expect(try x.clamped(-2, 2).floats()[0].isNaN)
    #expect(try x.minimum(x.affine(scale: 0, offset: 0)).floats()[0].isNaN)
    #expect(try x.reduced(.maximum, axes: [0]).floats()[0].isNaN)
  }

  @Test func idsOutsideTheTableThrow() throws {
    let table = try float32([1, 2, 3, 4], [2, 2], on: device)
    for id: Int32 in [-1, 2] {
      let ids = try Tensor([0, id], [2], on: device)
      #expect {
        try table.embedding(ids)
      } throws: { error in
        guard case TensorError.deviceFailure("cpu", "embedding", let reason) = error else { return false }
        return reason.contains("id \(id) ")
      }
    }
  }

  @Test func castsAtTheEndsOfTheRange() throws {
    let x = try float32([1e20, -1e20, .nan, -2.9, 65_519, 65_520, 0x1p-25, 0x1.8p-24], [8], on: device)
    #expect(try x.cast(to: .int32).int32s()[..<4] == [.max, .min, 0, -2])
    let half = try x.cast(to: .float16).floats()
    #expect(half[0] == .infinity && half[1] == -.infinity && half[2].isNaN)
    #expect(half[4...] == [65_504, .infinity, 0, 0x1p-23])
    // Every float16 there is, there and back.
    let all = (0...UInt16.max).filter { Float16(bitPattern: $0).isFinite }
    let tensor = try all.withUnsafeBytes {
      try Tensor(bytes: $0, TensorSpec([all.count], .float16), on: device)
    }
    let wide = try tensor.cast(to: .float32)
    #expect(try wide.floats() == all.map { Float(Float16(bitPattern: $0)) })
    #expect(try wide.cast(to: .float16).withBytes { Array($0.bindMemory(to: UInt16.self)) } == all)
  }
}
