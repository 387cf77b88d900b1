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

  @Test(arguments: TestDevice.all, storages)
  func edgeCasesAgreeWithFloat64(test: TestDevice, dtype: DType) throws {
    let device = try test.open()
    for row in OperationCases.edge where row.storages(among: Self.storages).contains(dtype) {
      #expect(device.backend.supports(row.operation(dtype), inputs: row.specs(dtype)), "\(row)")
      let agreement = try Agreement.check(row, on: device, dtype: dtype, seed: 1)
      #expect(agreement.passes, "\(agreement)")
    }
  }
}
