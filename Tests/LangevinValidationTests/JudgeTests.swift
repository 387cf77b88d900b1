import LangevinCPU
import LangevinTensor
import Synchronization
import Testing

import enum LangevinTensor.Operation

@testable import LangevinValidation

/// Where a device and the reference disagree, float64 says who is wrong.
@Suite struct JudgeTests {
  /// Of each kind of arithmetic one, and a product that float64 follows in a sample only.
  private static let cases: [OperationCase] = [
    OperationCase("matmul", .matmul(MatMul()), [[19, 33], [33, 21]]),
    OperationCase(
      "conv2d", .conv2d(Conv2D(kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))),
      [[2, 5, 6, 7], [63, 9]]),
    OperationCase(
      "attention", .attention(Attention(heads: 2, scale: 0.3)), [[2, 9, 16], [2, 11, 16], [2, 11, 16]]),
    OperationCase(
      "group_norm", .groupNorm(GroupNorm(groups: 4, epsilon: 1e-5, activation: .silu)),
      [[2, 99, 16], [16], [16]], kinds: [.narrow(mean: 100, deviation: 0.1)]),
    OperationCase("layer_norm", .layerNorm(LayerNorm(epsilon: 1e-5)), [[7, 130], [130], [130]]),
    OperationCase("softmax", .softmax, [[5, 37]]), OperationCase("geglu", .geglu, [[5, 34]]),
    OperationCase("add", .binary(.add), [[6, 7], [7]]),
    OperationCase("sum", .reduce(Reduce(.sum, axes: [1])), [[6, 90]]),
    OperationCase("large matmul", .matmul(MatMul()), [[501, 900], [900, 700]]),
  ]

  /// Changes one element, another one for each seed, beyond any tolerance.
  private func tampered(seed: UInt64) -> Tampered {
    Tampered { backend, _, y in
      var value: Float = 0
      let place = Int(seed &* 7_919) % y.shape.count
      try withUnsafeMutableBytes(of: &value) {
        try backend.download(y.storage, byteOffset: y.byteOffset + place * 4, into: $0)
      }
      try backend.put(value + 0.01 * (abs(value) + 1), at: place, of: y)
    }
  }

  /// Runs a case on a device beside a reference: the divergence, and what the reference is blamed for.
  private func shadow(
    _ test: OperationCase, seed: UInt64, _ backend: any Backend, _ reference: any Backend,
    asksAlways: Bool = false
  ) throws -> (Divergence?, ShadowRecord, told: [ReferenceFault]) {
    let told = Mutex<[ReferenceFault]>([])
    let shadow = try ShadowBackend(backend, reference: reference, asksAlways: asksAlways) { fault in
      told.withLock { $0.append(fault) }
    }
    let device = Device(shadow)
    var divergence: Divergence?
    do {
      _ = try Tensor.apply(
        test.operation(.float32), test.make(on: device, dtype: .float32, seed: seed), on: device)
    } catch let error as Divergence {
      divergence = error
    }
    return (divergence, shadow.compared, told.withLock { $0 })
  }

  private func seeds(_ test: OperationCase) -> ClosedRange<UInt64> {
    test.name.hasPrefix("large") ? 1...3 : 1...20
  }

  @Test func aFaultOfTheDeviceIsTheDevices() throws {
    for test in Self.cases {
      for seed in seeds(test) {
        let (divergence, record, _) = try shadow(test, seed: seed, tampered(seed: seed), CPUBackend())
        let found = try #require(divergence, "\(test.name) \(seed)")
        #expect(found.ratio > 1 && found.referenceRatio ?? 2 <= 1, "\(found)")
        #expect(record.referenceFaults.isEmpty)
        #expect(found.description.contains("tampered is off by") && found.description.contains(", cpu "))
      }
    }
  }

  @Test func aFaultOfTheReferenceIsTheReferences() throws {
    for test in Self.cases {
      for seed in seeds(test) {
        let (divergence, record, told) = try shadow(test, seed: seed, CPUBackend(), tampered(seed: seed))
        #expect(divergence == nil, "\(test.name) \(seed): \(divergence.map(\.description) ?? "")")
        let fault = try #require(record.referenceFaults.first, "\(test.name) \(seed)")
        #expect(record.referenceFaults.count == 1 && told == [fault])
        #expect(fault.error > 1 && fault.deviceError <= 1 && record.worst <= 1)
        #expect(fault.description.hasPrefix("the reference tampered is off in"), "\(fault)")
      }
    }
  }

  @Test func nobodyHealthyIsBlamed() throws {
    for test in Self.cases {
      for seed in seeds(test) {
        for asksAlways in [false, true] {
          let (divergence, record, _) = try shadow(
            test, seed: seed, CPUBackend(), CPUBackend(), asksAlways: asksAlways)
          #expect(divergence == nil && record.referenceFaults.isEmpty, "\(test.name) \(seed)")
        }
      }
    }
  }

  /// What `validate --replay` asks: a device that is wrong just as its reference is.
  @Test func aFaultThatBothHaveIsFoundWhereFloat64IsAlwaysAsked() throws {
    let test = Self.cases[0]
    let (missed, _, _) = try shadow(test, seed: 1, tampered(seed: 1), tampered(seed: 1))
    #expect(missed == nil)
    let (found, record, _) = try shadow(test, seed: 1, tampered(seed: 1), tampered(seed: 1), asksAlways: true)
    #expect(found?.ratio ?? 0 > 1 && found?.referenceRatio ?? 0 > 1 && record.referenceFaults.count == 1)
  }

  /// `validate` on what is too large for float64: the element at fault is in nobody's sample.
  @Test(arguments: 1...3 as ClosedRange<UInt64>)
  func theValidatorAsksFloat64Too(seed: UInt64) throws {
    let test = try #require(Self.cases.last)
    func run(_ backend: any Backend, reference: any Backend) throws -> CaseResult {
      var validator = Validator(version: "test", reference: Device(reference))
      (validator.seed, validator.repeats) = (seed, 1)
      return try validator.run(test, dtype: .float32, on: Validator.Subject(Device(backend), description: ""))
    }
    let device = try run(tampered(seed: seed), reference: CPUBackend())
    #expect(device.outcome == .failed && device.referenceFault == nil, "\(device.problem)")
    #expect(device.problem.contains("; the CPU device "), "\(device.problem)")
    let reference = try run(CPUBackend(), reference: tampered(seed: seed))
    #expect(reference.outcome == .passed && reference.referenceFault != nil, "\(reference.problem)")
    let healthy = try run(CPUBackend(), reference: CPUBackend())
    #expect(healthy.outcome == .passed && healthy.referenceFault == nil)
  }

  /// Gradients that float64 follows in a part only: an element that is asked for is in it.
  @Test(arguments: [
    OperationCase(
      "conv2d_weight_gradient",
      .conv2dWeightGradient(Conv2D(kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))),
      [[1, 20, 20, 300], [1, 20, 20, 290]]),
    OperationCase(
      "group_norm_gradient", .groupNormGradient(GroupNorm(groups: 32, epsilon: 1e-5, activation: .silu)),
      [[2, 90, 91, 64], [64], [64], [2, 90, 91, 64]]),
  ])
  func aWrongElementOfALargeGradientIsFound(test: OperationCase) throws {
    let device = Device(CPUBackend())
    let operation = test.operation(.float32)
    let inputs = test.operands(dtype: .float32, seed: 1)
    let result = try Tensor.apply(operation, test.make(on: device, dtype: .float32, seed: 1), on: device)
    let values = try result.floats()
    func operand(_ values: [Float]) -> Operand {
      Operand(result.spec, bytes: values.withUnsafeBytes { [UInt8]($0) })
    }
    let width = result.shape[1]
    var generator = Generator(seed: 4)
    // Of a norm's the last rows are those of gamma and beta.
    let places =
      [values.count - 1, values.count - width - 3]
      + (0..<3).map { _ in Int(generator.next() % UInt64(values.count)) }
    for place in places {
      let exact = try ExactValues(operation, inputs, seed: UInt64(place), including: [place])
      #expect(!exact.isComplete)
      let healthy = exact.compare(operand(values))
      #expect(healthy.ratio <= 1 && healthy.compared < values.count, "\(healthy)")
      var wrong = values
      wrong[place] += 0.01 * (abs(wrong[place]) + 1)
      let found = exact.compare(operand(wrong))
      #expect(found.ratio > 1 && found.worst == [place / width, place % width], "\(place): \(found)")
    }
  }
}
