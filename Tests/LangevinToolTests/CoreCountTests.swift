import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import Testing

/// Training goes on after a stop on a machine with other cores, and its ranks share them: gradients must not change.
@Suite struct CoreCountTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// An odd batch, whose pixels no number of cores divides.
  @Test(.enabled(if: CPUBackend.cores > 1), arguments: ["unet", "text_encoder"])
  func gradientsOfOneCoreAreThoseOfAll(component: String) throws {
    let device = Device(CPUBackend())
    func noise(_ shape: Shape, _ step: UInt32) throws -> Tensor {
      try Tensor.normal(shape, seed: 1, stream: 1, step: step, on: device)
    }
    let batch = 9
    if component == "unet" {
      try SafetensorsWriter.write(
        [
          (name: "sample", tensor: noise([batch, 4, 16, 16], 0)),
          (name: "timestep", tensor: Tensor((0..<batch).map { Float($0 * 100) }, [batch], on: device)),
          (name: "encoder_hidden_states", tensor: noise([batch, 16, 256], 1)),
        ], to: scratch.url("in.safetensors"))
      try SafetensorsWriter.write(
        [(name: "sample", tensor: noise([batch, 4, 16, 16], 2))], to: scratch.url("c.safetensors"))
    } else {
      let end = 2387
      let ids = (0..<batch * 16).map { Int32($0 % 16 == 15 ? end : $0 * 37 % 1000) }
      try SafetensorsWriter.write(
        [(name: "input_ids", tensor: Tensor(ids, [batch, 16], on: device))], to: scratch.url("in.safetensors")
      )
      try SafetensorsWriter.write(
        [(name: "last_hidden_state", tensor: noise([batch, 16, 256], 0))], to: scratch.url("c.safetensors"))
    }
    func gradients(_ name: String, with command: String) throws -> Data {
      let outcome = try Tool.run(
        [
          "run", component, "--model", DefaultModel.url.path, "--inputs", "in.safetensors", "--gradients",
          "--cotangent", "c.safetensors", "--device", "cpu", "--no-fallback", "--output", name,
        ], redirected: "", after: command, in: scratch.folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      return try Data(contentsOf: scratch.url(name))
    }
    // The first core that this process may use.
    let core = #"$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)"#
    let one = "taskset -pc \(core) $$ > taskset.log"
    let expected = try gradients("all.safetensors", with: ":")
    #expect(try gradients("one.safetensors", with: one) == expected)
    // The command took hold.
    let log = try String(contentsOf: scratch.url("taskset.log"), encoding: .utf8)
    #expect(log.contains("new affinity list"), "\(log)")
  }
}
