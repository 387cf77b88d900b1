import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import LangevinValidation
import Testing

/// Winograd's tiles of 4x4 pixels come closer to the bound than any other kernel. It is a bound of single elements, so
/// every element counts, of many inputs.
@Suite struct LargeTileTests {
  /// Those whose reference takes less than a second.
  private static let cases = OperationCases.edge.filter { row in
    guard case .conv2d(let conv) = row.operation(.float32),
      let output = try? row.operation(.float32).output(of: row.specs(.float32)),
      WinogradTiles(conv, input: row.inputs[0].shape, output: output.shape)?.side == 4
    else { return false }
    return output.shape.count * conv.taps * row.inputs[0].shape[3] < 500_000_000
  }

  @Test func `every element keeps the bound, over seeds`() throws {
    let devices =
      [Device(CPUBackend())] + (try TestDevice.all.filter { $0.family == .cpu }.map { try $0.open() })
    #expect(Self.cases.count == 3)
    for row in Self.cases {
      for seed in 2...5 {
        let expected = try Agreement.Expected(row, dtype: .float32, seed: UInt64(seed))
        for device in devices {
          let agreement = try expected.check(on: device)
          #expect(agreement.passes, "\(agreement) on \(device.name), seed \(seed)")
        }
      }
    }
  }
}
