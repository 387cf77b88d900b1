import LangevinTensor
import LangevinValidation
import Testing

@testable import LangevinOpenCL

@Suite(.serialized) struct SubgroupTests {
  /// The operations whose GPU kernels reduce over a work-group.
  private static let kinds: Set<LangevinTensor.Operation.Kind> = [
    .softmax, .groupNorm, .layerNorm, .rmsNorm, .attention,
  ]

  private static let devices = OpenCLDevices.all().map(\.index)

  @Test(arguments: devices)
  func theListingAndTheKernelsAgree(index: Int) throws {
    let listed = OpenCLDevices.all(probe: true)[index]
    let backend = try OpenCLBackend(index: index, family: .gpu)
    #expect(backend.subgroups == listed.subgroups)
    let norm = LayerNorm(epsilon: 1e-5, affine: false)
    for operation in [LangevinTensor.Operation.softmax, .layerNorm(norm)] {
      #expect(try Self.usesSubgroups(operation, backend) == listed.subgroups)
      #expect(try !Self.usesSubgroups(operation, OpenCLBackend(index: index, family: .cpu)))
      let local = try OpenCLBackend(index: index, family: .gpu, allowSubgroups: false)
      #expect(!local.subgroups)
      #expect(try !Self.usesSubgroups(operation, local))
    }
  }

  /// Of an operation on one tensor.
  private static func usesSubgroups(
    _ operation: LangevinTensor.Operation, _ backend: OpenCLBackend
  ) throws -> Bool {
    let spec = TensorSpec([1, 8, 16])
    let kernels = try backend.listing(of: OperationCall(operation, inputs: [spec], output: spec)).kernels
    #expect(!kernels.isEmpty)
    return kernels.contains { $0.options.contains("-DSUBGROUPS") }
  }

  /// Both forms against float64; where a device has no subgroups, both are the local form.
  @Test(arguments: devices, [true, false])
  func bothFormsAgreeWithFloat64(index: Int, allowSubgroups: Bool) throws {
    let device = Device(try OpenCLBackend(index: index, family: .gpu, allowSubgroups: allowSubgroups))
    let rows = OperationCases.edge.filter { Self.kinds.contains($0.operation(.float32).kind) }
    #expect(Set(rows.map { $0.operation(.float32).kind }) == Self.kinds)
    for row in rows {
      let agreement = try Agreement.check(row, on: device, dtype: .float32, seed: 3)
      #expect(agreement.passes, "\(agreement)")
    }
  }

  @Test(arguments: devices, [true, false])
  func bothFormsRepeatTheirBits(index: Int, allowSubgroups: Bool) throws {
    let device = Device(try OpenCLBackend(index: index, family: .gpu, allowSubgroups: allowSubgroups))
    let x = try Tensor.normal([2, 61, 160], seed: 5, on: device)
    let gamma = try Tensor.fill(1, [160], on: device)
    func results() throws -> [[Float]] {
      try [
        x.softmax(), x.layerNorm(epsilon: 1e-5), x.attention(keys: x, values: x, heads: 4),
        x.groupNorm(gamma, gamma, groups: 32, epsilon: 1e-5),
      ].map { try $0.floats() }
    }
    let first = try results()
    for _ in 0..<3 { #expect(try results() == first) }
  }

  /// 64 items in subgroups of 16, as a device that is right writes them.
  private var right: [Float] {
    (0..<8).flatMap { row in
      (0..<64).map { item -> Float in
        let team = item / 16
        return switch row {
        case 0: Float(team)
        case 1: 4
        case 2: Float(item % 16)
        case 3: 16
        case 4: Float((team * 16 + 1...team * 16 + 16).reduce(0, +))
        case 5: Float(team * 16 + 16)
        case 6: 2080
        default: 64
        }
      }
    }
  }

  @Test func theProbeAcceptsWhatIsRight() { #expect(Subgroups.problem(with: right, items: 64) == nil) }

  @Test(arguments: 0..<8)
  func theProbeRefusesOneWrongNumber(row: Int) {
    var rows = right
    rows[row * 64 + 37] += 1
    #expect(Subgroups.problem(with: rows, items: 64) != nil)
    rows[row * 64 + 37] = .nan
    #expect(Subgroups.problem(with: rows, items: 64) != nil)
  }

  @Test func subgroupsOfOneItemAreNoHelp() {
    let rows = (0..<8).flatMap { row in
      (0..<64).map { item -> Float in
        switch row {
        case 0: Float(item)
        case 1: 64
        case 2: 0
        case 3: 1
        case 4, 5: Float(item + 1)
        case 6: 2080
        default: 64
        }
      }
    }
    #expect(Subgroups.problem(with: rows, items: 64) == "a subgroup holds one work-item")
  }
}
