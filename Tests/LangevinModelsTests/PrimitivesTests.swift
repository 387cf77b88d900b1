import LangevinCPU
import LangevinTensor
import Testing

import enum LangevinTensor.Operation

/// The CPU backend with the primitives alone: every other operation must come from its decomposition.
private final class PrimitiveBackend: ForwardingBackend {
  let base: any Backend = CPUBackend()
  let name = "primitives"

  func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool {
    operation.definition.decomposition == nil
  }
}

/// Whole pipelines on a backend that has the primitives alone, held to what PyTorch made of the fixtures as the CPU
/// backend is, to the same tolerance.
@Suite struct PrimitivesTests {
  /// Runs a test of another suite on a device of its own, which must have decomposed these operations among others
  /// and may have no help.
  private func run(_ dtype: DType, decomposing names: Set<String>, _ test: (Setting) throws -> Void) throws {
    let device = Device(PrimitiveBackend())
    try test(Setting(device: device, dtype: dtype))
    let decomposed = Set(device.decompositions.keys)
    #expect(names.isSubset(of: decomposed), "not decomposed: \(names.subtracting(decomposed))")
    #expect(device.fallbacks.operations == 0)
  }

  private static let dtypes = [DType.float32, .float16]

  @Test(arguments: dtypes) func stableDiffusion(dtype: DType) throws {
    let names: Set = ["matmul", "conv2d", "attention", "group_norm", "layer_norm", "geglu", "affine"]
    try run(dtype, decomposing: names) {
      try TinyPipelineTests().pipelineFromPromptToPicture(setting: $0)
    }
  }

  /// In float32, as on other devices.
  @Test func unCLIP() throws {
    try run(.float32, decomposing: ["matmul", "conv2d", "attention", "group_norm", "layer_norm"]) {
      let tests = try UnCLIPPipelineTests()
      try tests.textToImage(case: ("text", true, true), setting: $0)
      try tests.imageVariation(setting: $0)
    }
  }

  @Test(arguments: dtypes) func stableUnCLIP(dtype: DType) throws {
    try run(dtype, decomposing: ["matmul", "conv2d", "attention", "group_norm", "layer_norm", "geglu"]) {
      try UnCLIPPipelineTests().stableTextToImage(setting: $0)
    }
  }

  @Test(arguments: dtypes) func wan(dtype: DType) throws {
    try run(dtype, decomposing: ["matmul", "conv2d", "attention", "layer_norm", "rms_norm", "rotary"]) {
      try TinyWanTests().pipelineFromPromptToVideo(setting: $0)
    }
  }
}
