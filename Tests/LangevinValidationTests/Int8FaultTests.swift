import LangevinCPU
import LangevinTensor
import Testing

import enum LangevinTensor.Operation

@testable import LangevinValidation

/// Products of int8 with the faults that kernels of them have, planted in a backend that computes them in another way.
@Suite struct Int8FaultTests {
  enum Fault: CaseIterable {
    /// Products are of the left operand's own numbers.
    case roundsNothing
    /// Steps are cut and not rounded.
    case cutsSteps
    /// Weights are moved by 128, and the sum that takes it back misses the block's last number.
    case correctsTooLittle
    /// That sum is the next block's.
    case correctsByTheNext
    /// A block of the left operand has the scale of the one after it.
    case takesTheNextScale
    /// So has a block of the weight.
    case takesTheNextWeightScale
    /// The last four numbers of a row are left out.
    case losesTheTail
    /// Sums of two products end at those of 16 bits.
    case saturates
  }

  /// Blocks of a row, whose steps are rounded as a kernel may: by a product with an inverse, ties to even.
  private static func round(_ x: ArraySlice<Double>, _ fault: Fault?) -> [(scale: Float, steps: [Int])] {
    stride(from: x.startIndex, to: x.endIndex, by: 32).map { start in
      let block = x[start..<start + 32].map { Float($0) }
      let most = block.reduce(0x1p-100) { max($0, abs($1)) }
      let inverse = 1 / (most / 127)
      let rule: FloatingPointRoundingRule = fault == .cutsSteps ? .towardZero : .toNearestOrEven
      return (most / 127, block.map { Int(($0 * inverse).rounded(rule)) })
    }
  }

  private static func blocks(_ words: HostArray) -> [(scale: Float, steps: [Int])] {
    Operand(words).bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 34).map { block in
        let half = bytes.loadUnaligned(fromByteOffset: block * 34, as: Float16.self)
        return (Float(half), (0..<32).map { Int(Int8(bitPattern: bytes[block * 34 + 2 + $0])) })
      }
    }
  }

  private static func values(_ operation: Operation, _ inputs: [HostArray], _ fault: Fault?) -> [Float]? {
    guard operation.roundsLeft, case .matmul(let matmul) = operation else { return nil }
    if fault == .roundsNothing {
      var plain = matmul
      plain.right = .blocks(.q8)
      return try? Reference.evaluate(.matmul(plain), inputs).values.map { Float($0) }
    }
    let size = matmul.size(left: inputs[0].shape, right: inputs[1].shape)
    let weight = blocks(inputs[1])
    let count = size.inner / 32
    var products = [Double](repeating: 0, count: size.rows * size.columns)
    for row in 0..<size.rows {
      let left = round(inputs[0].values[row * size.inner..<(row + 1) * size.inner], fault)
      for column in 0..<size.columns {
        var sum: Float = 0
        for block in 0..<count {
          let (next, right) = ((block + 1) % count, weight[column * count + block])
          let steps = left[block].steps
          let terms = (0..<32).map { steps[$0] * (right.steps[$0] + 128) }
          var whole = 0
          for pair in 0..<16 {
            let two = terms[2 * pair] + terms[2 * pair + 1]
            whole += fault == .saturates ? min(max(two, -32768), 32767) : two
          }
          let moved = fault == .correctsByTheNext ? left[next].steps : steps
          whole -= 128 * (fault == .correctsTooLittle ? moved.dropLast() : moved[...]).reduce(0, +)
          if fault == .losesTheTail, block == count - 1 {
            whole -= (28..<32).reduce(0) { $0 + steps[$1] * right.steps[$1] }
          }
          let scale = left[fault == .takesTheNextScale ? next : block].scale
          let other = fault == .takesTheNextWeightScale ? weight[column * count + next].scale : right.scale
          sum += scale * other * Float(whole)
        }
        products[row * size.columns + column] = Double(sum)
      }
    }
    let operands = matmul.epilogue.operands(inputs)
    let (bias, residual) = (operands.bias?.values, operands.residual?.values)
    return products.enumerated().map { i, product in
      let sum =
        Double(matmul.scale) * product + (bias?[i % size.columns] ?? 0) + (residual?[i] ?? 0)
      return Float(Reference.activate(matmul.epilogue.activation, sum))
    }
  }

  /// Without the largest, which take seconds each.
  private static let cases = OperationCases.edge.filter {
    let operation = $0.operation(.float32)
    guard operation.roundsLeft, case .matmul(let matmul) = operation else { return false }
    let size = matmul.size(left: $0.inputs[0].shape, right: $0.inputs[1].shape)
    return size.rows * size.inner * size.columns < 200_000
  }

  private func failures(_ fault: Fault?, seed: UInt64 = 1) throws -> [String] {
    let device = Device(Tampered(values: { Self.values($0, $1, fault) }))
    return try failures(on: device, seed: seed)
  }

  private func failures(on device: Device, seed: UInt64, dtypes: [DType] = [.float32]) throws -> [String] {
    var validator = Validator(version: "test", reference: Device(CPUBackend()))
    (validator.shrinks, validator.dtypes, validator.repeats, validator.seed) = (false, dtypes, 1, seed)
    return try validator.run(Self.cases, on: device).devices[0].cases
      .filter { $0.outcome == .failed }.map { "\($0.name): \($0.problem)" }
  }

  @Test(arguments: Fault.allCases) func isCaught(fault: Fault) throws {
    #expect(try !failures(fault).isEmpty)
  }

  /// Where a step is next to a half, kernels may take either side.
  @Test(arguments: Array(1...8) as [UInt64]) func otherRoundingIsNot(seed: UInt64) throws {
    let failures = try failures(nil, seed: seed)
    #expect(failures.isEmpty, "\(failures)")
  }

  @Test(arguments: Array(1...8) as [UInt64]) func theCPUsIsNot(seed: UInt64) throws {
    let failures = try failures(
      on: Device(CPUBackend()), seed: seed, dtypes: [.float32, .float16, .bfloat16])
    #expect(failures.isEmpty, "\(failures)")
  }
}
