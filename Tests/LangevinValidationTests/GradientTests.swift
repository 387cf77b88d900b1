import LangevinTensor
import LangevinValidation
import Testing

@Suite struct GradientTests {
  /// Which kinds pass no gradient by their nature.
  private static let constants: Set<LangevinTensor.Operation.Kind> = [.normalNoise, .fill, .nonFiniteCount]

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
            || [.adamW, .arrangeWeight].contains(operation.kind),
          "\(test.name)")
      }
    }
  }

  @Test(arguments: [11, 12, 13] as [UInt64]) func rulesAreTheDerivativesOfTheReference(seed: UInt64) throws {
    let verdicts = try GradientCheck.verdicts(OperationCases.edge, seed: seed)
    #expect(verdicts.count >= 24)
    for verdict in verdicts {
      #expect(
        verdict.passes,
        "\(verdict.operation): \(verdict.cases) cases, \(verdict.worst) in \(verdict.worstCase)")
    }
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
}
