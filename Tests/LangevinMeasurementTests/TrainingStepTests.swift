import Foundation
import Langevin
import LangevinCPU
import LangevinJSON
import LangevinKernels
import LangevinMeasurement
import LangevinOpenCL
import LangevinTensor
import LangevinTraining
import LangevinValidation
import Testing

/// A step of training a tiny model, recorded and bisected.
@Suite(.serialized) struct TrainingStepTests {
  private let folder = FileManager.default.temporaryDirectory.appending(path: "langevin-\(UUID().uuidString)")

  /// Two pictures, and the settings of a run that learns them.
  private func setup(_ change: [StrictJSON.Member] = []) throws -> TrainingSetup<DiffusionTask> {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var lines = ""
    for index in 0..<2 {
      let pixels = (0..<768).map { UInt8(truncatingIfNeeded: $0 * (index + 3)) }
      try Picture(width: 16, height: 16, pixels: pixels).writePNG(to: folder.appending(path: "\(index).png"))
      lines += "{\"file_name\": \"\(index).png\", \"text\": \"wave\"}\n"
    }
    try Data(lines.utf8).write(to: folder.appending(path: "metadata.jsonl"))
    let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let model = fixtures.appending(path: "Golden/Fixtures/tiny-ddpm")
    var document = try SettingsDocument(task: DiffusionTask.name, DiffusionTask.defaults)
    try document.merge(
      [
        .init("model", .string(model.path)), .init("data", .strings([folder.path])),
        .init("batch", .integer(2)),
      ] + change, from: "test")
    return try TrainingSetup(document) { Issue.record("\($0)") }
  }

  private func pocl(patch: (@Sendable (KernelSource, String) -> String)? = nil) throws -> Device {
    let found = OpenCLDevices.all().first { $0.platform == "Portable Computing Language" }
    let index = try #require(found, "PoCL is missing: apt install pocl-opencl-icd").index
    return Device(try OpenCLBackend(index: index, family: .cpu, patch: patch))
  }

  @Test func aProfileTellsForwardFromBackward() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    for (device, parts) in [(Device(CPUBackend()), 1), (try pocl(), 2)] {
      var trainer = try setup([.init("accumulation", .integer(parts))]).steps(on: device) {
        Issue.record("\($0)")
      }
      try trainer.step()
      let (result, recording) = try Recording.make(on: device, name: "step 2") { try trainer.step() }
      #expect(try result.get().step == 2)
      let profile = Profile(
        recording, ceilings: RecordedRun.ceilings, unrecordedStepSeconds: [recording.seconds / 2])
      #expect(profile.steps == 1 && profile.stepSeconds == [recording.seconds])
      #expect(abs((profile.overhead ?? 0) - 1) < 1e-9)
      let stages = Dictionary(uniqueKeysWithValues: profile.stages.map { ($0.name, $0) })
      for (name, count) in [
        ("batch", 1), ("forward", parts), ("backward", parts), ("norm", 1), ("update", 1),
      ] {
        let stage = try #require(stages[name], "\(profile.stages.map(\.name))")
        #expect(stage.count == count && (name == "batch" || stage.launches > 0), "\(name)")
      }
      let names = profile.layers.map(\.name)
      for name in ["unet.down_blocks.0", "backward unet.down_blocks.0", "(update)", "(forward)"] {
        #expect(names.contains(name), "\(names)")
      }
      // Each layer's pass back is about twice its pass forward.
      func flops(_ prefix: String) -> Double {
        profile.layers.filter { $0.name.hasPrefix(prefix) }.reduce(0) { $0 + $1.work.flops }
      }
      #expect((1.5...2.5).contains(flops("backward unet.") / flops("unet.")))
      #expect(abs(profile.layers.reduce(0) { $0 + $1.share } - 1) < 1e-9)
    }
  }

  @Test func aRightDeviceAgreesThroughAStep() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    var steps: [Int] = []
    let result = try Bisection.run(
      training: setup(), steps: 2, on: pocl(), reference: CPUBackend(), progress: { steps.append($0) })
    #expect(result.divergence == nil, "\(result.divergence.map(\.description) ?? "")")
    #expect(steps == [1, 2] && result.compared.operations > 400 && result.compared.worst <= 1)
  }

  @Test func aFaultInAGradientIsFoundInItsLayer() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let (right, wrong) = ("return s * (1.0f + z * (1.0f - s));", "return s * z;")
    let device = try pocl { source, text in
      source == .normGradient ? text.replacingOccurrences(of: right, with: wrong) : text
    }
    let result = try Bisection.run(training: setup(), on: device, reference: CPUBackend())
    let divergence = try #require(result.divergence)
    // The first that the pass back meets.
    #expect(divergence.path == "unet.conv_norm_out")
    #expect(divergence.operation.name == "group_norm_gradient", "\(divergence.operation.name)")
    #expect(result.stage == "step 1, backward")
  }

  @Test func aFaultInTheOptimizerIsFoundThere() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let device = Device(try Halved(pocl().backend))
    let result = try Bisection.run(training: setup(), on: device, reference: CPUBackend())
    #expect(result.stage == "step 1, update")
    #expect(result.divergence?.operation.name == "adam_w", "\(result.divergence?.operation.name ?? "")")
  }
}

/// A device whose steps of AdamW go half as far.
private final class Halved: ForwardingBackend {
  let base: any Backend

  init(_ base: any Backend) { self.base = base }

  func execute(_ operation: LangevinTensor.Operation, inputs: [TensorView], output: TensorView) throws {
    guard case .adamW(var step) = operation else {
      return try base.execute(operation, inputs: inputs, output: output)
    }
    step.rate /= 2
    try base.execute(.adamW(step), inputs: inputs, output: output)
  }
}
