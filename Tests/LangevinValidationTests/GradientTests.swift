import LangevinTensor
import LangevinValidation
import Testing

@Suite struct GradientTests {
  /// Which kinds pass no gradient by their nature.
  private static let constants: Set<LangevinTensor.Operation.Kind> = [.normalNoise, .fill, .nonFiniteCount]

  private static func hasRule(_ operation: LangevinTensor.Operation) -> Bool {
    switch operation.definition.gradient {
    case .none, .undefined: false
    case .decomposed, .rule: true
    }
  }

  /// Small rows, and none whose rounding is the point.
  private static let cases = OperationCases.edge.filter { test in
    let operation = test.operation(.float32)
    let isCast = if case .cast(let dtype) = operation { dtype != .float32 } else { false }
    let isSmall = test.inputs.allSatisfy { $0.shape.count <= 3000 }
    let isSmooth = test.kinds.allSatisfy { kind in
      switch kind {
      case .normal, .wide, .positive, .ids, .mask: true
      case .mean, .narrow, .constant, .nonFinite, .extremes, .denormal, .equalRows: false
      }
    }
    let isPacked = test.name.contains("panels")
    return hasRule(operation) && !isPacked && isSmall && isSmooth && !isCast && !test.inputs.isEmpty
  }

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
          operation.kind.rawValue.hasSuffix("_gradient") || [.adamW, .arrangeWeight].contains(operation.kind),
          "\(test.name)")
      }
    }
  }

  @Test func rulesAreTheDerivativesOfTheReference() throws {
    var checked: [LangevinTensor.Operation.Kind: Int] = [:]
    for test in Self.cases {
      guard let error = try GradientCheck.error(test, seed: 11) else { continue }
      checked[test.operation(.float32).kind, default: 0] += 1
      #expect(error < 1e-6, "\(test.name): \(error)")
    }
    let kinds = Set(OperationCases.edge.map { $0.operation(.float32) }.filter(Self.hasRule).map(\.kind))
    #expect(kinds.subtracting(checked.keys).isEmpty, "\(kinds.subtracting(checked.keys))")
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
