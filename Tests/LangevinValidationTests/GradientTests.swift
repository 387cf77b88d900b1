import LangevinTensor
import LangevinValidation
import Testing

@Suite struct GradientTests {
  /// Which kinds pass no gradient by their nature.
  private static let constants: Set<LangevinTensor.Operation.Kind> = [
    .normalNoise, .fill, .nonFiniteCount, .dequantize,
  ]

  @Test func everyKindHasARuleOrPassesNothing() {
    for test in OperationCases.edge {
      let operation = test.operation(.float32)
      switch operation.definition.gradient {
      case .rule, .decomposed: break
      case .none:
        let isComparison = operation == .binary(.less) || operation == .binary(.equal)
        let isInteger = if case .cast(.int32) = operation { true } else { false }
        #expect(Self.constants.contains(operation.kind) || isComparison || isInteger, "\(test.name)")
      case .undefined:
        #expect(
          operation.kind.rawValue.hasSuffix("_gradient")
            || operation.kind == .adamW,
          "\(test.name)")
      }
    }
  }

  @Test(arguments: [11, 12, 13] as [UInt64]) func rulesAreTheDerivativesOfTheReference(seed: UInt64) throws {
    let verdicts = try GradientCheck.verdicts(OperationCases.edge, seed: seed)
    #expect(verdicts.count >= 23)
    for verdict in verdicts {
      #expect(
        verdict.passes,
        "\(verdict.operation): \(verdict.cases) cases, \(verdict.worst) in \(verdict.worstCase)")
    }
  }

  @Test func gradientsThroughDecompositionsAreDerivativesToo() throws {
    var checked: Set<LangevinTensor.Operation.Kind> = []
    for test in OperationCases.edge where GradientCheck.isCheckable(test) {
      let operation = test.operation(.float32)
      guard operation.definition.decomposition != nil, !operation.isGradient else { continue }
      let error = try GradientCheck.error(test, seed: 4) { operation in
        operation.definition.decomposition == nil ? operation.definition.gradient : .decomposed
      }
      guard let error else { continue }
      // Constants of the decompositions are float32 numbers.
      #expect(error < 1e-5, "\(test.name): \(error)")
      checked.insert(operation.kind)
    }
    #expect(checked.count >= 12, "\(checked)")
  }

  @Test func decompositionsAreTheOperations() throws {
    var checked: Set<LangevinTensor.Operation.Kind> = []
    let device = Device(ReferenceBackend())
    for test in OperationCases.edge where test.inputs.allSatisfy({ $0.shape.count <= 3000 }) {
      let operation = test.operation(.float32)
      let isExtreme = test.kinds.contains { if case .extremes = $0 { true } else { false } }
      guard let decomposition = operation.definition.decomposition, !isExtreme else { continue }
      let inputs = try test.tensors(test.arrays(dtype: .float32, seed: 5), on: device)
      guard try operation.output(of: inputs.map(\.spec)).shape.count > 0 else { continue }
      let direct = try ReferenceBackend.values(of: Tensor.apply(operation, inputs, on: device))
      let parts = try ReferenceBackend.values(of: decomposition(inputs))
      let scale = direct.reduce(0) { max($0, abs($1)) }
      let error = zip(direct, parts).reduce(0) { max($0, abs($1.0 - $1.1)) } / max(scale, 1e-30)
      // Constants of the decompositions are float32 numbers.
      #expect(direct.count == parts.count && error < 2e-7, "\(test.name): \(error)")
      checked.insert(operation.kind)
    }
    #expect(checked.count >= 17, "\(checked)")
  }

  /// Faults of a gradient, each of which a check must find whatever the operation.
  private static let faults: [String: @Sendable (Tensor) throws -> Tensor] = [
    "the sign": { try $0.map(.negate) },
    "a percent too much": { try $0 * 1.01 },
    "nothing": { try $0 * 0 },
    "moved by one": { gradient in
      let flat = try gradient.reshaped([gradient.shape.count])
      guard flat.shape.count > 1 else { return try gradient * 2 }
      let parts = [try flat.rows(1..<flat.shape.count), try flat.rows(0..<1)]
      return try Tensor.concatenated(parts, axis: 0).reshaped(gradient.shape)
    },
    "without its last number": { gradient in
      let flat = try gradient.reshaped([gradient.shape.count])
      return try flat.rows(0..<flat.shape.count - 1).padded(before: [0], after: [1]).reshaped(gradient.shape)
    },
  ]

  @Test(arguments: faults.keys.sorted()) func aPlantedFaultIsFoundInEveryRule(fault: String) throws {
    let tamper = try #require(Self.faults[fault])
    let kinds = LangevinTensor.Operation.Kind.allCases
    var planted = 0
    for kind in kinds {
      let cases = OperationCases.edge.filter {
        $0.operation(.float32).kind == kind && GradientCheck.isCheckable($0)
      }
      guard cases.contains(where: { (try? GradientCheck.error($0, seed: 3)).flatMap { $0 } != nil }) else {
        continue
      }
      // Each input's gradient by itself, on whichever case shows it.
      for position in 0..<(cases.map(\.inputs.count).max() ?? 0) {
        let hasGradient = cases.filter { test in
          position < test.inputs.count && test.inputs[position].dtype.isFloatingPoint
            && !test.operation(.float32).definition.operand(position).isAlwaysFloat32
            && test.operation(.float32).definition.operand(position).name != "mask"
        }
        guard !hasGradient.isEmpty else { continue }
        planted += 1
        let isFound = try hasGradient.contains { test in
          let error = try GradientCheck.error(test, seed: 3, directions: 8) { operation in
            let rule = operation.definition.gradient
            guard operation == test.operation(.float32) else { return rule }
            return rule.tampered { gradients in
              var gradients = gradients
              gradients[position] = try gradients[position].map(tamper)
              return gradients
            }
          }
          return error.map { $0 > 1e-4 } ?? false
        }
        #expect(isFound, "\(kind.rawValue), input \(position): \(fault)")
      }
    }
    #expect(planted >= 40, "\(planted)")
  }
}
