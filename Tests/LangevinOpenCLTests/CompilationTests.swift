import Foundation
import LangevinTensor
import Logging
import Testing

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

@testable import LangevinOpenCL

/// Kernels that are listed and compiled before they are needed.
@Suite struct CompilationTests {
  /// Operations of one kernel, of several, with scratch memory and with copies.
  private func calls() throws -> [OperationCall] {
    let noise = NormalNoise(seed: 1, stream: 0, step: 0, shape: [5, 40])
    let matrix = TensorSpec([5, 40])
    let operations: [(Operation, [TensorSpec])] = [
      (.unary(.silu), [matrix]), (.cast(.float16), [matrix]), (.cast(.float32), [matrix]),
      (.binary(.add), [matrix, TensorSpec([40])]), (.transpose([1, 0]), [matrix]),
      (.reduce(Reduce(.sum, axes: [1])), [matrix]), (.softmax, [matrix]), (.nonFiniteCount, [matrix]),
      (.matmul(MatMul()), [matrix, TensorSpec([40, 8])]), (.normalNoise(noise), []),
      (.dequantize(.q8), [BlockEncoding.q8.spec(320)]),
      (.matmul(MatMul(right: .blocks(.q8))), [matrix, BlockEncoding.q8.spec(320)]),
      (
        .attention(Attention(heads: 2, scale: 1)),
        [TensorSpec([1, 5, 32]), TensorSpec([1, 7, 32]), TensorSpec([1, 7, 32])]
      ),
      (
        .groupNorm(GroupNorm(groups: 2, epsilon: 1e-5)),
        [TensorSpec([1, 3, 3, 8]), TensorSpec([8]), TensorSpec([8])]
      ),
    ]
    return try operations.map { OperationCall($0, inputs: $1, output: try $0.output(of: $1)) }
  }

  private func run(_ call: OperationCall, on backend: OpenCLBackend) throws {
    func view(_ spec: TensorSpec) throws -> TensorView {
      TensorView(storage: try backend.allocate(byteCount: spec.byteCount), offset: 0, spec: spec)
    }
    try backend.execute(call.operation, inputs: call.inputs.map(view), output: view(call.output))
    try backend.synchronize()
  }

  @Test(arguments: TestDevice.all)
  func whatIsListedIsWhatIsLaunchedAndListingLaunchesNothing(test: TestDevice) throws {
    let backend = try OpenCLBackend(index: test.index, family: test.family)
    try backend.startRecording()
    defer { try? backend.stopRecording() }
    for call in try calls() {
      let listed = try backend.variants(of: call)
      #expect(try backend.takeRecords().isEmpty)
      try run(call, on: backend)
      let launched = Set(try backend.takeRecords().map(\.kernel)).subtracting(["copy", "clear"])
      #expect(Set(listed.map(\.kernel)) == launched, "\(call.operation)")
    }
  }

  @Test(arguments: TestDevice.all)
  func jobsCompileEveryKernelOnceAndNoMore(test: TestDevice) throws {
    let backend = try OpenCLBackend(index: test.index, family: test.family)
    let calls = try calls()
    let jobs = try backend.compileJobs(for: calls)
    #expect(Set(jobs.map(\.program)).count == jobs.count)
    let listed = jobs.flatMap { $0.parts.flatMap { Array($0.variants) } }
    #expect(Set(listed).count == listed.count)
    #expect(try Set(listed) == calls.reduce(into: []) { $0.formUnion(try backend.variants(of: $1)) })
    try backend.startRecording()
    defer { try? backend.stopRecording() }
    let copy = try JSONDecoder().decode([CompileJob].self, from: JSONEncoder().encode(jobs))
    for job in copy {
      try backend.compile(job)
      let launched = try backend.takeRecords().map(\.kernel).filter { $0 != "copy" && $0 != "clear" }
      #expect(launched.count == job.variantCount, "\(job.program)")
    }
  }

  /// A model's weights are packed before the first product runs.
  @Test(arguments: TestDevice.all, [DType.float32, .float16])
  func whatPacksAWeightIsCompiledWithItsProduct(test: TestDevice, dtype: DType) throws {
    let backend = try OpenCLBackend(index: test.index, family: test.family)
    guard backend.supports(.cast(dtype), inputs: [TensorSpec([1])]) else { return }
    let specs = [TensorSpec([5, 40], dtype), TensorSpec([40, 8], dtype)]
    let product = Operation.matmul(MatMul(right: .packed))
    let jobs = try backend.compileJobs(
      for: [OperationCall(product, inputs: specs, output: product.output(of: specs))])
    let compiled = Set(jobs.flatMap { $0.parts.flatMap { $0.variants.map(\.kernel) } })
    try backend.startRecording()
    defer { try? backend.stopRecording() }
    for job in jobs { try backend.compile(job) }
    let launched = Set(try backend.takeRecords().map(\.kernel)).subtracting(["copy", "clear"])
    #expect(launched == compiled)
    let source = try Tensor.fill(1, [8, 40], dtype: dtype, on: Device(backend))
    _ = try backend.takeRecords()
    _ = try backend.pack(source.view, WeightShape(channels: 40, columns: 8))
    let packing = Set(try backend.takeRecords().map(\.kernel))
    #expect(!packing.isEmpty && packing.isSubset(of: compiled), "\(packing) of \(compiled)")
  }

  @Test func readyKernelsAreForgottenWhenTheDriversCacheChanges() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(
      at: folder.appendingPathComponent("a/b"), withIntermediateDirectories: true)
    let (kernel, access) = (
      folder.appendingPathComponent("a/b/k.so"), folder.appendingPathComponent("a/last_accessed")
    )
    try Data([1, 2, 3]).write(to: kernel)
    let before = DriverCache.fingerprint(folder)
    try Data([1]).write(to: access)
    #expect(DriverCache.fingerprint(folder) == before)
    for bytes in [[1, 2, 4], [1, 2], []] as [[UInt8]] {
      let last = DriverCache.fingerprint(folder)
      try Data(bytes).write(to: kernel)
      #expect(DriverCache.fingerprint(folder) != last)
    }
    try FileManager.default.removeItem(at: kernel)
    #expect(DriverCache.fingerprint(folder) != before)
  }

  @Test func readyKernelsHoldForOneDriverAndOneVersionOfTheSources() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    let backend = try OpenCLBackend(index: 0)
    let jobs = try backend.compileJobs(for: try calls())
    var device = backend.description
    device.platform = "a platform without a cache"
    func ready(_ device: DeviceDescription, _ sources: String = "1") -> ReadyKernels {
      ReadyKernels(device, family: .cpu, sources: sources, folder: folder)
    }
    #expect(ready(device).missing(of: jobs).count == jobs.count)
    ready(device).add(Array(jobs.prefix(2)))
    ready(device).add([jobs[2]])
    #expect(ready(device).missing(of: jobs).map(\.program) == jobs.dropFirst(3).map(\.program))
    #expect(ready(device, "2").missing(of: jobs).count == jobs.count)
    device.driver += "1"
    #expect(ready(device).missing(of: jobs).count == jobs.count)
  }

  /// A processor with vectors and a graphics card are what they say; a processor without is measured, once.
  @Test func onlyADoubtfulDeviceIsMeasuredAndOnlyOnce() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    var device = try #require(OpenCLDevices.all().first)
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    func choose(_ times: [KernelFamily: Double]) throws -> (FamilyChoice, measured: Int) {
      var measured = 0
      let choice = try FamilyChoice.of(device, sources: "1", folder: folder, logger: logger) {
        measured += 1
        guard let seconds = times[$0] else { throw OpenCLError.call("clBuildProgram", code: -11) }
        return seconds
      }
      return (choice, measured)
    }
    for (type, width, family) in [("cpu", 8, KernelFamily.cpu), ("cpu", 4, .cpu), ("gpu", 1, .gpu)] {
      (device.type, device.vectorWidth) = (type, width)
      let (choice, measured) = try choose([:])
      #expect(choice.family == family && measured == 0)
    }
    (device.type, device.vectorWidth) = ("cpu", 1)
    for (times, family) in [
      ([.cpu: 0.25, .gpu: 0.5], .cpu), ([.cpu: 0.5, .gpu: 0.25], .gpu), ([.gpu: 9], .gpu), ([.cpu: 9], .cpu),
    ] as [([KernelFamily: Double], KernelFamily)] {
      device.driver += "1"
      let (choice, measured) = try choose(times)
      #expect(choice.family == family && measured == 2, "\(choice)")
      let (again, repeated) = try choose([:])
      #expect(again == choice && repeated == 0)
    }
    device.driver += "1"
    #expect(throws: OpenCLError.self) { try choose([:]) }
  }
}
