import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import LangevinValidation
import Testing

/// Weights in the forms of their backends.
@Suite struct PackingTests {
  private func report(_ device: Device) throws -> ValidationReport {
    var validator = Validator(version: "test", reference: Device(CPUBackend()))
    validator.checksPacking = true
    return try validator.run([], on: device)
  }

  private static var devices: [Device] {
    get throws {
      let opencl = try OpenCLDevices.all().flatMap { device in
        try KernelFamily.allCases.map { Device(try OpenCLBackend(index: device.index, family: $0)) }
      }
      return [Device(CPUBackend()), Device(ReferenceBackend())] + opencl
    }
  }

  @Test func whatIsPackedComesBack() throws {
    for device in try Self.devices {
      let row = try #require(try report(device).devices[0].operations.first)
      #expect(row.operation == "pack" && row.passed == 75 && row.failed == 0, "\(device.name): \(row)")
    }
  }

  /// Swaps the first two columns when it packs.
  private final class Swapping: ForwardingBackend {
    let base: any Backend = CPUBackend()

    func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
      let packed = try base.pack(source, shape)
      guard shape.columns > 1 else { return packed }
      // [columns, rows] in float32.
      var columns = [Float](repeating: 0, count: 2 * shape.rows)
      try columns.withUnsafeMutableBytes {
        try base.download(packed.storage, byteOffset: packed.offset * 4, into: $0)
      }
      let swapped = Array(columns[shape.rows...] + columns[..<shape.rows])
      try swapped.withUnsafeBytes {
        try base.upload($0, to: packed.storage, byteOffset: packed.offset * 4)
      }
      return packed
    }
  }

  @Test func twoSwappedColumnsAreFound() throws {
    let report = try report(Device(Swapping()))
    let row = try #require(report.devices[0].operations.first)
    // A weight of one column has nothing to swap.
    #expect(row.failed == 60 && row.passed == 15, "\(row)")
    #expect(!report.passes)
  }

  @Test func aLinearWeightInFloat32SharesItsMemoryOnTheCPU() throws {
    let backend = CPUBackend()
    let device = Device(backend)
    let source = try Tensor.normal([64, 48], seed: 1, on: device)
    let before = backend.memory.inUse
    let weight = try Weight(linear: source)
    #expect(backend.memory.inUse == before)
    #expect(try weight.checkpointTensor().floats() == source.floats())
    #expect(weight.encoding == .dense(.float32) && weight.rows == 48 && weight.columns == 64)
  }

  @Test func weightsPassGradientsToTheirSources() throws {
    for device in [Device(CPUBackend()), Device(ReferenceBackend())] {
      let x = try Tensor.normal([1, 5, 6, 3], seed: 1, on: device)
      let source = try Tensor.normal([4, 3, 3, 3], seed: 2, on: device)
      let tape = Tape()
      let watched = tape.watch(source)
      let y = try x.conv2d(
        Weight(convolution: watched), kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))
      let loss = try y.map(.square).reduced(.sum, axes: [0, 1, 2, 3])
      let gradient = try #require(try tape.gradients(of: loss.reshaped([1]), at: [watched])[0])
      #expect(gradient.shape == source.shape)
      // The loss is quadratic: a step along the gradient changes it by its square, and half the curvature.
      let got = try gradient.floats()
      func value(_ weight: Tensor) throws -> Double {
        let y = try x.conv2d(
          Weight(convolution: weight), kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))
        return try y.floats().reduce(0) { $0 + Double($1) * Double($1) }
      }
      let step: Float = 1e-3
      let forward = try value(source + gradient.affine(scale: step, offset: 0))
      let backward = try value(source - gradient.affine(scale: step, offset: 0))
      let slope = (forward - backward) / (2 * Double(step))
      let square = got.reduce(0) { $0 + Double($1) * Double($1) }
      #expect(abs(slope / square - 1) < 1e-3, "\(slope) \(square)")
    }
  }
}
