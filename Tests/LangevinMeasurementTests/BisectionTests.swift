import Foundation
import Langevin
import LangevinCPU
import LangevinKernels
import LangevinMeasurement
import LangevinOpenCL
import LangevinTensor
import LangevinValidation
import Testing

/// PoCL, with kernels as they are or patched; a machine without PoCL fails the tests.
private func pocl(patch: (@Sendable (KernelSource, String) -> String)? = nil) throws -> Device {
  let found = OpenCLDevices.all().first { $0.platform == "Portable Computing Language" }
  let index = try #require(found, "PoCL is missing: apt install pocl-opencl-icd").index
  return Device(try OpenCLBackend(index: index, family: .cpu, patch: patch))
}

@Suite struct BisectionTests {
  private func bisect(_ device: Device, steps: Int, precision: DType = .float32) throws -> Bisection {
    var request = GenerationRequest(prompt: "grinning face")
    (request.steps, request.seed) = (steps, 1)
    return try Bisection.run(
      request, with: Checkpoint.open(DefaultModel.url), precision: precision, on: device,
      reference: CPUBackend())
  }

  @Test(arguments: [DType.float32, .float16])
  func aRightDeviceAgreesToTheEnd(precision: DType) throws {
    let result = try bisect(pocl(), steps: 1, precision: precision)
    #expect(result.divergence == nil, "\(result.divergence.map(\.description) ?? "")")
    #expect(result.compared.operations > 300 && result.compared.worst > 0 && result.compared.worst <= 1)
  }

  /// A kernel that loses one tap, but only with 256 channels: one convolution of the shipped UNet has them.
  private static let losesATap: @Sendable (KernelSource, String) -> String = { source, text in
    source != .panels
      ? text
      : text.replacingOccurrences(
        of: "const int taps = kernel_height * kernel_width;",
        with: "const int taps = kernel_height * kernel_width - (channels == 256 && kernel_width == 3);")
  }

  @Test func aFaultInOneLayerIsFoundThere() throws {
    let result = try bisect(pocl(patch: Self.losesATap), steps: 2)
    let divergence = try #require(result.divergence)
    #expect(divergence.path == "unet.up_blocks.0.resnets.0.conv1")
    #expect(divergence.operation.kind == .conv2d)
    #expect(result.stage == "step 1 of 2")
    #expect(divergence.inputs[0].spec.shape[3] == 256)
    #expect(divergence.ratio > 100)
    #expect(divergence.kernels.contains { $0.hasPrefix("product ") }, "\(divergence.kernels)")

    // What it leaves behind fails on the broken device, and on no other.
    let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: file) }
    try Capture(divergence).write(to: file, version: "test")
    let capture = try Capture(reading: file)
    #expect(capture.operation == divergence.operation && capture.path == divergence.path)
    #expect(capture.inputs.map(\.bytes) == divergence.inputs.map(\.bytes))
    let broken = try pocl(patch: Self.losesATap).backend
    #expect(try capture.compare(on: broken, reference: CPUBackend())?.path == divergence.path)
    #expect(try capture.compare(on: pocl().backend, reference: CPUBackend()) == nil)
  }

  /// An activation that float16 cannot hold is the first reason of black pictures, and no device's fault.
  @Test func whatOverflowsIsNamedToo() throws {
    let device = Device(try ShadowBackend(pocl().backend, reference: CPUBackend()))
    let x = try Tensor([1, 300] as [Float], [2], on: device).cast(to: .float16)
    #expect {
      try layer("unet.mid_block") { _ = try x * x }
    } throws: { error in
      guard let divergence = error as? Divergence else { return false }
      return divergence.path == "unet.mid_block" && divergence.problem.contains("not finite in float16")
    }
  }

  @Test func otherFilesAreNoCaptures() throws {
    let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: file) }
    let x = try Tensor([1] as [Float], [1], on: Device(CPUBackend()))
    try SafetensorsWriter.write([("input.0", x)], to: file)
    #expect { try Capture(reading: file) } throws: { "\($0)".contains("not written by `langevin bisect`") }
    try SafetensorsWriter.write(
      [("input.0", x)], metadata: ["langevin_capture": "0", "version": "0.0.1", "operation": "{}"], to: file)
    #expect { try Capture(reading: file) } throws: { "\($0)".contains("by langevin 0.0.1 in format 0") }
  }
}
