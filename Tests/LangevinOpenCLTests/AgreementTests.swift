import LangevinOpenCL
import LangevinTensor
import LangevinValidation
import Testing

@Suite(.serialized) struct AgreementTests {
  /// Without a device nothing below would run, and nothing would fail.
  @Test func poclIsHere() {
    #expect(
      OpenCLDevices.all().contains { $0.platform == "Portable Computing Language" && $0.problem == nil })
  }

  private static let storages: [DType] = [.float32, .float16, .bfloat16]

  /// On each device in both kernel families.
  @Test(arguments: storages) func edgeCasesAgreeWithFloat64(dtype: DType) throws {
    let devices = try TestDevice.all.map { (test: $0, device: try $0.open()) }
    for row in OperationCases.edge where row.storages(among: Self.storages).contains(dtype) {
      let expected = try Agreement.Expected(row, dtype: dtype, seed: 1)
      for (test, device) in devices {
        let operation = row.operation(dtype)
        // Products of int8 are composed where a device has no instruction for them.
        #expect(
          device.backend.supports(operation, inputs: row.specs(dtype)) || operation.roundsLeft,
          "\(row) on \(test)")
        let agreement = try expected.check(on: device)
        #expect(agreement.passes, "\(agreement) on \(test)")
      }
    }
  }
}
