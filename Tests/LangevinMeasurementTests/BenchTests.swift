import Langevin
import LangevinCPU
import LangevinKernels
import LangevinMeasurement
import LangevinNN
import LangevinOpenCL
import LangevinTensor
import LangevinValidation
import Synchronization
import Testing

@Suite(.serialized) struct BenchTests {
  private func bench(_ devices: [Device]) -> Bench {
    var bench = Bench(devices.map { .init($0, description: "a device") }, version: "test")
    bench.rounds = 2
    return bench
  }

  private func openCL(patch: (@Sendable (KernelSource, String) -> String)? = nil) throws -> Device {
    let description = try #require(
      OpenCLDevices.all().first { $0.platform == "Portable Computing Language" },
      "PoCL is missing: apt install pocl-opencl-icd")
    return Device(try OpenCLBackend(index: description.index, patch: patch))
  }

  private let softmax = OperationCase("softmax 40 x 512", .softmax, [[40, 512]])
  private let product = OperationCase("matmul 64 x 64 x 64", .matmul(MatMul()), [[64, 64], [64, 64]])

  @Test func timesWorkAndCeilings() throws {
    let report = try bench([Device(CPUBackend()), openCL()]).run(
      .ops, model: nil, [softmax, product].map { BenchWorkload($0, dtype: .float32) })
    #expect(!report.isPartial)
    #expect(report.rows.map(\.device) == ["cpu", report.devices[1].name, "cpu", report.devices[1].name])
    for row in report.rows {
      #expect(row.failure == nil && row.verdict.isValidated, "\(row.verdict.note)")
      #expect(row.wall?.values.count == 2 && row.kernels?.values.count == 2)
      #expect((row.launches ?? 0) >= 1 && row.fallbacks == 0)
      let (cold, wall) = (try #require(row.cold), try #require(row.wall))
      #expect(cold > 0 && wall.median > 0)
      #expect(try #require(row.floor) > 0 && row.fraction != nil)
    }
    #expect(report.rows[2].work?.flops == 524_288.0)
    #expect(report.rows[0...1].compactMap(\.rank).sorted() == [1, 2])
  }

  @Test func aWrongKernelIsNotRanked() throws {
    let broken = try openCL { source, text in
      source == .norm
        ? text.replacing("const float inverse = 1.0f /", with: "const float inverse = 1.01f /") : text
    }
    let report = try bench([Device(CPUBackend()), broken]).run(
      .ops, model: nil, [BenchWorkload(softmax, dtype: .float32)])
    #expect(report.rows.map(\.verdict.isValidated) == [true, false])
    #expect(report.rows.map(\.rank) == [1, nil])
    #expect(report.rows[1].wall != nil)
    #expect(report.markdown.contains("**not validated:**"))
  }

  @Test func aWrongModelIsNotRanked() throws {
    let checkpoint = try RandomModel.open(nil).checkpoint
    let workloads = try BenchWorkload.model(.clip, checkpoint, dtype: .float32)
    let broken = try openCL { source, text in
      source == .norm ? text.replacing("inverse = 1.0f / sqrt", with: "inverse = 1.02f / sqrt") : text
    }
    let report = try bench([openCL(), broken]).run(.clip, model: "shipped", workloads)
    #expect(report.rows[0].verdict.isValidated, "\(report.rows[0].verdict.note)")
    #expect(!report.rows[1].verdict.isValidated, "\(report.rows[1].verdict.note)")
    #expect(report.rows.map(\.rank) == [1, nil])
  }

  @Test func aDeviceThatFailsDoesNotStopTheOthers() throws {
    let failing = FailingBackend(after: 40)
    let report = try bench([Device(failing), Device(CPUBackend())]).run(
      .ops, model: nil, [softmax, product].map { BenchWorkload($0, dtype: .float32) })
    #expect(report.isPartial)
    #expect(report.devices[0].failure?.contains("unplugged") == true)
    #expect(report.devices[1].failure == nil)
    let rows = report.rows.filter { $0.device == "cpu" }
    #expect(rows.count == 2 && rows.allSatisfy { $0.rank != nil })
    let failed = report.rows.filter { $0.device == "failing" && $0.failure != nil }
    #expect(!failed.isEmpty)
    // Where one failed, the other is alone.
    #expect(failed.allSatisfy { row in rows.contains { $0.name == row.name && $0.rank == 1 } })
    #expect(report.markdown.contains("**Partial:**"))
  }

  @Test func aStopKeepsWhatThereIs() throws {
    let asked = Mutex(0)
    var bench = self.bench([Device(CPUBackend())])
    bench.progress = { line in if line == "matmul 64 x 64 x 64" { asked.withLock { $0 = 1 } } }
    bench.shouldStop = { asked.withLock { $0 } == 1 }
    let report = try bench.run(
      .ops, model: nil, [softmax, product, softmax].map { BenchWorkload($0, dtype: .float32) })
    #expect(report.isPartial)
    #expect(report.rows.first?.wall?.values.count == 2)
    #expect(report.rows.allSatisfy { $0.name == softmax.name })
  }

  @Test func randomWeightsAreTheSameEverywhere() throws {
    func load(_ device: Device, _ name: String) throws -> [Float] {
      let weights = Weights(RandomWeights(seed: 4), on: device)
      return try weights.tensor(name, name.hasSuffix("bias") ? [64] : [64, 100]).floats()
    }
    let (cpu, pocl) = (Device(CPUBackend()), try openCL())
    let kernel = try load(cpu, "a.weight")
    #expect(try load(pocl, "a.weight") == kernel)
    #expect(try load(cpu, "b.weight") != kernel)
    let variance = kernel.reduce(0) { $0 + $1 * $1 } / Float(kernel.count)
    #expect(abs(variance - 0.01) < 0.001)
    #expect(try load(cpu, "a.bias") == [Float](repeating: 0, count: 64))
  }

  @Test func theFullSizeModelIsDescribedInFull() throws {
    let (name, checkpoint) = try RandomModel.open("sd15-random")
    #expect(name == "sd15-random")
    for suite in BenchSuite.allCases where ![.ops, .transformer, .gradients].contains(suite) {
      #expect(try !BenchWorkload.model(suite, checkpoint, dtype: .float16).isEmpty)
    }
    #expect(throws: CheckpointError.self) { try RandomModel.open("/nowhere") }
    #expect(throws: CheckpointError.self) {
      try BenchWorkload.model(.transformer, checkpoint, dtype: .float32)
    }
  }

  /// Every shape of it, without the numbers.
  @Test func theFullSizeTransformerFitsTogether() throws {
    let checkpoint = try RandomModel.open("wan-1.3b-random").checkpoint
    let workload = try #require(BenchWorkload.model(.transformer, checkpoint, dtype: .float16).first)
    let result = try workload.prepare(Device(ShapeBackend()))()()
    #expect(result.count == 5 * 32 * 32 * 16)
    #expect(throws: CheckpointError.self) { try BenchWorkload.model(.unet, checkpoint, dtype: .float32) }
  }
}

/// The CPU backend until it fails for good.
private final class FailingBackend: ForwardingBackend, PeakMeasuring {
  let name = "failing"
  let base: any Backend = CPUBackend()
  private let left: Mutex<Int>

  init(after count: Int) { left = Mutex(count) }

  func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    let isLeft = left.withLock { count in
      count -= 1
      return count >= 0
    }
    guard isLeft else {
      throw TensorError.deviceFailure(device: name, operation: operation.name, reason: "it was unplugged")
    }
    try base.execute(operation, inputs: inputs, output: output)
  }
  func measurePeak() throws -> PeakRates { PeakRates(flops: 1e11, bandwidth: 1e10) }
}
