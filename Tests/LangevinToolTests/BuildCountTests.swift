import Foundation
import Langevin
import LangevinOpenCL
import LangevinTensor
import LangevinTestSupport
import Testing

/// A program is built once for a device, whatever is drawn with it.
struct BuildCountTests {
  private let backend: OpenCLBackend

  init() throws {
    backend = try OpenCLBackend(index: Int(Tool.pocl().dropFirst("opencl:".count)) ?? 0)
  }

  /// What is built for a request, each program with its options.
  private func programs(_ checkpoint: Checkpoint, _ change: (inout GenerationRequest) -> Void = { _ in })
    throws
    -> Set<String>
  {
    var request = GenerationRequest(prompt: "a face", recommended: checkpoint.recommended)
    change(&request)
    let plan = try MemoryPlan(request, with: checkpoint, precision: .float32, on: Device(backend))
    let programs = try backend.compileJobs(for: plan.calls).map(\.program)
    #expect(Set(programs).count == programs.count, "a program is built twice")
    return Set(programs)
  }

  private func expectNoMore(_ other: Set<String>, than base: Set<String>, _ what: String) {
    let more = other.subtracting(base).sorted()
    #expect(more.isEmpty, "\(what) builds \(more.count) more than \(base.count) programs: \(more)")
  }

  @Test func sizesBatchesAndAdaptersBuildNothingMore() throws {
    let shipped = try Checkpoint.open(DefaultModel.url)
    let base = try programs(shipped)
    #expect(base.count > 10)
    for (width, height) in [(128, 128), (96, 64), (192, 256), (512, 512)] {
      expectNoMore(
        try programs(shipped) { ($0.width, $0.height) = (width, height) }, than: base, "\(width)x\(height)")
    }
    for batch in [2, 3, 8] {
      expectNoMore(
        try programs(shipped) { ($0.count, $0.batch) = (batch, batch) }, than: base, "a batch of \(batch)")
    }
    for steps in [3, 50] {
      expectNoMore(try programs(shipped) { $0.steps = steps }, than: base, "\(steps) steps")
    }

    let tiny = try Checkpoint.open(Fixtures.url.appending(path: "tiny-sd"))
    let lora = try LoRAFile(url: Fixtures.url.appending(path: "adapters/peft.safetensors"))
    let plain = try programs(tiny)
    // A merge multiplies two small matrices as the weights are loaded, in float32 by rows.
    expectNoMore(try programs(tiny.merging([(lora, 0.5)])), than: plain, "a LoRA")
  }
}
