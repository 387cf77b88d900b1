import Foundation
import LangevinTensor
import LangevinValidation
import Testing

import enum LangevinTensor.Operation

@Suite struct CodingTests {
  /// Every row of the table there and back, which is every kind of operation.
  @Test func operationsSurviveJSON() throws {
    for test in OperationCases.all {
      let operation = test.operation(.bfloat16)
      let data = try OperationJSON.encode(operation)
      #expect(try OperationJSON.decode(Operation.self, from: data) == operation, "\(test)")
      let specs = test.specs(.float16)
      #expect(
        try OperationJSON.decode([TensorSpec].self, from: OperationJSON.encode(specs)) == specs, "\(test)")
    }
  }

  @Test func infinitiesSurviveJSON() throws {
    for operation in [
      Operation.clamp(lower: -.infinity, upper: 3), .clamp(lower: 0, upper: .infinity),
      .linearCombination([.infinity, .leastNonzeroMagnitude]), .fill(-.infinity, TensorSpec([], .float16)),
      .pad(Pad(before: [1], after: [0], value: .infinity)),
    ] {
      let data = try OperationJSON.encode(operation)
      #expect(try OperationJSON.decode(Operation.self, from: data) == operation)
    }
  }

  @Test(arguments: [
    "{}", #"{"dance": {}}"#, #"{"softmax": {}, "geglu": {}}"#, #"{"clamp": {"lower": "x", "upper": 1}}"#,
  ])
  func whatIsNoOperationThrows(text: String) {
    #expect(throws: DecodingError.self) { try OperationJSON.decode(Operation.self, from: Data(text.utf8)) }
  }
}
