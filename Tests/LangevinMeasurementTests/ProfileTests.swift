import Foundation
import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import Testing

@testable import LangevinMeasurement

@Suite(.serialized) struct ProfileTests {
  @Test(arguments: RecordedRun.all)
  func tablesSumToTheTotals(run: RecordedRun) throws {
    let profile = Profile(run.recording, ceilings: RecordedRun.ceilings)
    for rows in [profile.operations, profile.layers] {
      #expect(abs(rows.reduce(0) { $0 + $1.seconds } - profile.deviceSeconds) < 1e-9)
      #expect(abs(rows.reduce(0) { $0 + $1.share } - 1) < 1e-9)
      #expect(rows.map(\.seconds) == rows.map(\.seconds).sorted(by: >))
    }
    let (a, b) = (profile.operations, profile.layers)
    #expect(a.reduce(0) { $0 + $1.launches } == b.reduce(0) { $0 + $1.launches })
    #expect(a.reduce(0) { $0 + $1.operations } == b.reduce(0) { $0 + $1.operations })
    let (flops, others) = (a.reduce(Work()) { $0 + $1.work }, b.reduce(Work()) { $0 + $1.work })
    #expect(abs(flops.flops - others.flops) <= 1e-9 * flops.flops)
    #expect(profile.stages.reduce(0) { $0 + $1.launches } == profile.launches)
    #expect(run.recording.kernels.count == profile.launches)
    #expect(profile.steps == RecordedRun.steps)
    #expect(profile.fallbacks.operations == 0)
    #expect(profile.uploads.bytes > 0 && profile.downloads.count > 0)
    for name in ["load text encoder", "text encoder", "load unet", "load autoencoder", "steps", "decoder"] {
      let stage = try #require(profile.stages.first { $0.name == name }, "no stage \(name)")
      #expect(stage.seconds > 0)
      if !Profile.isLoading(name) { #expect(stage.memory > 0 && stage.launches > 0) }
    }
    #expect((profile.hostPerLaunch == nil) == (run.device.name == "cpu"))
    #expect(!profile.lines(width: 100).contains { $0.hasSuffix(" ") })
  }

  @Test(arguments: RecordedRun.all)
  func theDepthJoinsLayers(run: RecordedRun) throws {
    let shallow = Profile(run.recording, ceilings: RecordedRun.ceilings, depth: 1)
    #expect(Set(shallow.layers.map(\.name)).isSuperset(of: ["text_encoder", "unet", "vae"]))
    #expect(shallow.layers.allSatisfy { !$0.name.contains(".") })
    // What belongs to no network is named after its stage.
    #expect(shallow.layers.contains { $0.name == "(update)" })
    let deep = Profile(run.recording, ceilings: RecordedRun.ceilings, depth: 64)
    #expect(deep.layers.contains { $0.name == "unet.down_blocks.0.resnets.0.conv1" })
  }

  /// The kernels of the run, by hand from the records.
  @Test(arguments: RecordedRun.all)
  func theBoundFollowsFromIntensityAndCeilings(run: RecordedRun) throws {
    let profile = Profile(run.recording, ceilings: RecordedRun.ceilings)
    let conv = try #require(profile.operations.first { $0.name == "conv2d 3x3" })
    #expect(conv.bound == .compute, "a 3x3 convolution does more than 10 FLOP/B")
    #expect(abs(conv.ofCeiling - conv.work.flops / 1e11 / conv.seconds) < 1e-9)
    let concatenation = try #require(profile.operations.first { $0.name == "concatenate" })
    #expect(concatenation.bound == .memory && concatenation.work.flops == 0)
  }

  @Test(arguments: RecordedRun.all)
  func stagesFillTheRun(run: RecordedRun) throws {
    let root = try #require(run.recording.spans.first)
    #expect(root.name == "generation" && root.depth == 0)
    let sum = run.recording.topStages.reduce(0.0) { $0 + Double($1.duration) * 1e-9 }
    #expect(sum <= run.recording.seconds)
    #expect(sum >= 0.95 * run.wall, "stages sum to \(sum) of \(run.wall) s")
    #expect(run.recording.seconds >= run.wall)
  }

  @Test(arguments: RecordedRun.all)
  func deviceTimesLieOnTheHostsTimeLine(run: RecordedRun) throws {
    let root = try #require(run.recording.spans.first)
    let own = run.recording.kernels
    for (kernel, next) in zip(own, own.dropFirst()) {
      #expect(kernel.start >= kernel.record.hostStart, "a kernel began before its launch")
      #expect(kernel.end <= next.end, "one in-order queue")
    }
    // The run ends with a download, so that everything is done by then.
    #expect(try #require(own.last).end <= root.end + 1_000_000)
    let busy = own.reduce(0) { $0 + $1.seconds }
    #expect(busy <= run.recording.seconds)
  }

  @Test func fallbacksAndDecompositionsAreRecordedAndCounted() throws {
    let device = Device(Partial(), fallback: CPUBackend())
    // What ran before the recording is not in it.
    _ = try Tensor([Float](repeating: 1, count: 4), [4], on: device).softmax()
    let (result, recording) = try Recording.make(on: device) {
      try Tensor([Float](repeating: 1, count: 4), [4], on: device).softmax().silu().floats()
    }
    #expect(try result.get().count == 4)
    let profile = Profile(recording, ceilings: RecordedRun.ceilings)
    #expect(profile.fallbacks.operations == 1)
    #expect(profile.fallbacks.byName == ["silu": 1])
    #expect(profile.fallbacks.bytes == 32)
    #expect(profile.decompositions == ["softmax": 1])
    let names = Set(profile.operations.map(\.name))
    #expect(names.isSuperset(of: ["silu", "exp", "divide"]) && !names.contains("softmax"), "\(names)")
    let text = profile.lines(width: 100)
    #expect(text.contains { $0.hasPrefix("fallbacks: 1 operations (silu 1)") })
    #expect(text.contains("decomposed: 1 operations (softmax 1) ran as simpler ones"))
  }

  @Test func whatCameBeforeAnErrorIsKept() throws {
    struct Stop: Error {}
    let device = Device(CPUBackend())
    let (result, recording) = try Recording.make(on: device) {
      _ = try Tensor.fill(1, [4], on: device)
      throw Stop()
    }
    #expect(throws: Stop.self) { try result.get() }
    #expect(recording.kernels.map(\.record.kernel) == ["fill"])
    // The device records no more.
    _ = try Tensor.fill(1, [4], on: device)
    #expect(try device.backend.takeRecords().isEmpty)
  }

  @Test func overheadComparesMedians() throws {
    var profile = Profile(
      Recording(device: "none", kernels: [], transfers: [], spans: []), ceilings: RecordedRun.ceilings,
      unrecordedStepSeconds: [1.0, 1.0])
    profile.stepSeconds = [9, 1.1, 1.1]
    #expect(abs(try #require(profile.overhead) - 0.1) < 1e-9)
    profile.unrecordedStepSeconds = []
    #expect(profile.overhead == nil)
  }
}

/// The CPU backend under another name, without a softmax, which is no primitive, and without SiLU, which is one.
private final class Partial: ForwardingBackend {
  let base: any Backend = CPUBackend()
  let name = "partial"
  func supports(_ operation: LangevinTensor.Operation, inputs: [TensorSpec]) -> Bool {
    operation != .softmax && operation != .unary(.silu)
  }
}
