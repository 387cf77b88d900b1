import Foundation
import LangevinCPU
import LangevinDiffusion
import LangevinTensor
import Testing

@testable import Langevin

/// What a run leaves is a model, and costs no more memory the longer it takes.
@Suite struct TrainedModelTests {
  @Test(arguments: ["tiny-ddpm", "tiny-sd"]) func aTrainedModelDraws(model: String) throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments(model, steps: 3, ["--learning-rate", "1e-2"]))
    let prompt = model == "tiny-sd" ? ["wave number 1"] : []
    func draw(_ model: String, _ output: String) throws -> Picture {
      let outcome = try fixture.run(
        ["generate"] + prompt + [
          "-m", model, "--steps", "3", "--seed", "1", "--device", "cpu", "--quiet", "-o", output,
        ])
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
      return try Picture.read(fixture.scratch.url(output)).picture
    }
    let before = try draw(TrainFixture.models.appending(path: model).path, "before.png")
    let after = try draw(fixture.scratch.url("run/model").path, "after.png")
    #expect(after.width == before.width && after != before)

    // The averages, in the names and shapes of the model that it started from.
    for part in model == "tiny-sd" ? ["unet", "text_encoder"] : ["unet"] {
      let state = try SafetensorsFile(url: fixture.state(3))
      let folder = fixture.scratch.url("run/model/\(part)")
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
      let name = try #require(names.first { $0.hasSuffix(".safetensors") })
      let file = try SafetensorsFile(url: folder.appending(path: name))
      let started = try SafetensorsFile(
        url: TrainFixture.models.appending(path: "\(model)/\(part)/\(name)"))
      #expect(file.names.sorted() == started.names.sorted())
      let device = Device(CPUBackend())
      for name in file.names {
        let kept = try state.load("\(part)/\(name)", on: device)
        #expect(file.spec(of: name)?.shape == started.spec(of: name)?.shape)
        #expect(try file.load(name, on: device).floats() == kept.rows(3..<4).floats(), "\(name)")
        #expect(try kept.rows(3..<4).floats() != kept.rows(0..<1).floats(), "\(name)")
      }
    }
  }

  /// By which samplers know what the network says.
  @Test func theSchedulerSaysWhatWasLearnt() throws {
    let fixture = try TrainFixture()
    let file = "scheduler/scheduler_config.json"
    let started = try Data(contentsOf: TrainFixture.models.appending(path: "tiny-ddpm/\(file)"))
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 1))
    #expect(try fixture.model()[file] == started)
    try fixture.train(
      TrainFixture.arguments("tiny-ddpm", steps: 1, output: "v", ["--prediction", "v_prediction"]))
    let schedule = try NoiseSchedule(json: try #require(try fixture.model("v")[file]))
    #expect(schedule.prediction == .v)
    #expect(try NoiseSchedule(json: started).prediction == .epsilon)
  }

  /// What a step leaves behind would be 200 KB of gradients, a MB of activations.
  @Test(arguments: [false, true]) func fiveHundredStepsTakeNoMoreMemoryThanAHundred(onPoCL: Bool) throws {
    let fixture = try TrainFixture()
    let running = try Tool.start(
      TrainFixture.arguments(
        "tiny-ddpm", steps: 500, device: onPoCL ? try Tool.pocl() : "cpu",
        ["--batch", "1", "--checkpoint-minutes", "0.01"]), in: fixture.scratch.folder)
    func resident(after step: Int) throws -> Int {
      try fixture.await(step, of: running)
      let path = "/proc/\(running.process.processIdentifier)/status"
      let line = try #require(
        try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").first {
          $0.hasPrefix("VmRSS:")
        })
      return try #require(line.split(separator: " ").compactMap { Int($0) }.first) * 1024
    }
    let growth = try -resident(after: 100) + resident(after: 480)
    #expect(growth < 4 << 20, "\(growth) bytes")
    #expect(try running.finish().status == 0)
  }
}
