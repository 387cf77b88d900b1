import LangevinTensor
import Testing

/// The losses of make_gradients.py's cases and what leads to them.
@Suite struct GoldenLossTests {
  @Test(arguments: GoldenCase.names, Setting.all) func lossIsPyTorchs(name: String, setting: Setting) throws {
    let golden = try GoldenCase(name)
    let (device, dtype) = (setting.device, setting.dtype)
    let tolerance: Float = dtype == .float32 ? 1e-5 : 1e-2
    let leaves = try golden.leaves(on: device)
    // Each has its gradient in the file, but for those that the loss does not depend on.
    let unreached = Set(golden.description.unreached.map { "gradient.\($0)" })
    #expect(leaves.keys.filter { !golden.file.names.contains($0) }.sorted() == unreached.sorted())

    let (outputs, loss) = try golden.evaluate(leaves, on: device, as: dtype)
    for (name, output) in outputs {
      let expected = try golden.file.load("output.\(name)", on: device)
      let got = output.shape.rank == 4 ? try output.transposed([0, 3, 1, 2]) : output
      #expect(got.shape == expected.shape)
      let error = relativeError(try got.floats(), try expected.floats())
      #expect(error < tolerance, "\(name) differs by \(error) on \(setting)")
    }
    let error = relativeError(try loss.floats(), [Float(golden.description.loss)])
    #expect(error < tolerance, "the loss differs by \(error) on \(setting)")
  }
}
