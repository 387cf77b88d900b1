import Foundation
import Langevin
import LangevinTensor
import Testing

/// Single operations against PyTorch in float64, by Tests/Golden/make_operation_gradients.py.
struct OperationFixture {
  /// One operation: its inputs, its output, a cotangent, and the gradients that it makes of it.
  struct Case: Decodable {
    let name: String
    let operation: LangevinTensor.Operation
    /// Of each input, whether it has a gradient.
    let gradients: [Bool]
  }

  private struct Index: Decodable {
    let operations: [Case]
  }

  let cases: [Case]
  let file: SafetensorsFile

  init() throws {
    let url = Fixture.root.appending(path: "operation_gradients.json")
    cases = try JSONDecoder().decode(Index.self, from: Data(contentsOf: url)).operations
    file = try SafetensorsFile(url: url.deletingPathExtension().appendingPathExtension("safetensors"))
  }

  func inputs(_ test: Case, on device: Device) throws -> [Tensor] {
    try test.gradients.indices.map { try file.load("\(test.name).input.\($0)", on: device) }
  }
}

@Suite struct OperationGoldenTests {
  @Test(arguments: devices) func everyOutputIsPyTorchs(device: Device) throws {
    let fixture = try OperationFixture()
    #expect(fixture.cases.count > 100)
    for test in fixture.cases {
      let output = try Tensor.apply(test.operation, fixture.inputs(test, on: device))
      let expected = try fixture.file.load("\(test.name).output", on: device)
      #expect(output.shape == expected.shape, "\(test.name)")
      let error = try relativeError(output.floats(), expected.floats())
      #expect(error < 1e-5, "\(test.name) differs by \(error) on \(device.name)")
    }
  }
}
