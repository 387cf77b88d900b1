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

  /// Where rounding of the inputs to the storage is not the point: gradients of the sum of output times cotangent.
  @Test(arguments: devices) func everyGradientIsPyTorchs(device: Device) throws {
    let fixture = try OperationFixture()
    for test in fixture.cases where test.gradients.contains(true) {
      let tape = Tape()
      let inputs = try fixture.inputs(test, on: device)
      let watched = zip(inputs, test.gradients).map { $1 ? tape.watch($0) : $0 }
      let output = try Tensor.apply(test.operation, watched)
      let cotangent = try fixture.file.load("\(test.name).cotangent", on: device)
      let axes = Array(0..<output.shape.rank)
      let loss = try (output * cotangent).reduced(.sum, axes: axes).reshaped([1])
      let gradients = try tape.gradients(of: loss, at: watched)
      let wanted = try test.gradients.indices.map { index in
        test.gradients[index]
          ? try fixture.file.load("\(test.name).gradient.\(index)", on: device).floats() : []
      }
      let largest = wanted.joined().map(abs).max() ?? 0
      for index in test.gradients.indices where test.gradients[index] {
        let gradient = try #require(gradients[index], "\(test.name), input \(index)")
        #expect(gradient.shape == inputs[index].shape, "\(test.name)")
        // Where the exact gradient is zero, rounding is measured against the others.
        let own = wanted[index].map(abs).max() ?? 0
        let size = own > 0 ? own : largest
        let error = try zip(gradient.floats(), wanted[index]).reduce(0) { max($0, abs($1.0 - $1.1)) } / size
        #expect(error < 1e-4, "\(test.name), input \(index) differs by \(error) on \(device.name)")
      }
    }
  }
}
