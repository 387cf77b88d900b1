import Foundation
import Langevin
import LangevinTensor
import Testing

/// `langevin run --gradients`: the mean square error of a denoiser is a cotangent of 2 (y - noise) / count.
@Suite struct ComponentGradientTests {
  private static let components: [String: (folder: String, inputs: [String: String])] = [
    "tiny_sd_unet": (
      "tiny-sd/unet", ["sample": "sample", "timestep": "timesteps", "encoder_hidden_states": "context"]
    ),
    "tiny_ddpm_unet": ("tiny-ddpm/unet", ["sample": "sample", "timestep": "timesteps"]),
  ]

  @Test(arguments: components.keys.sorted())
  func gradientsOfAComponentArePyTorchs(name: String) throws {
    let (folder, names) = try #require(Self.components[name])
    let device = try #require(devices.first { $0.name == "cpu" })
    let golden = try SafetensorsFile(
      url: Fixture.root.appending(path: "gradients/\(name).safetensors"))
    let scratch = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let (inputs, cotangents) = (
      scratch.appending(path: "inputs.safetensors"), scratch.appending(path: "cotangents.safetensors")
    )
    try SafetensorsWriter.write(
      names.map { (name: $0.key, tensor: try golden.load("input.\($0.value)", on: device)) }, to: inputs)
    let y = try golden.load("output.sample", on: device)
    let noise = try golden.load("input.noise", on: device)
    let cotangent = try (y - noise) * (2 / Float(y.shape.count))
    try SafetensorsWriter.write([(name: "sample", tensor: cotangent)], to: cotangents)

    let model = Fixture.root.appending(path: folder)
    let (outputs, gradients) = try ComponentCall.gradients(
      "unet", of: model, inputs: inputs, cotangents: cotangents, on: device)
    #expect(try relativeError(outputs[0].tensor.floats(), y.floats()) < 1e-5)
    let found = Dictionary(uniqueKeysWithValues: gradients.map { ($0.name, $0.tensor) })
    let expected = golden.names.filter { $0.hasPrefix("gradient.") }
    #expect(expected.count == found.keys.filter { !$0.hasPrefix("input.") }.count)
    var largest: Float = 0
    for key in expected { largest = try max(largest, golden.load(key, on: device).floats().map(abs).max() ?? 0) }
    for key in expected {
      let gradient = try #require(found[String(key.dropFirst("gradient.".count))], "\(key)").floats()
      let wanted = try golden.load(key, on: device).floats()
      // Some vanish but for rounding.
      let size = max(wanted.map(abs).max() ?? 0, 1e-3 * largest)
      #expect(zip(gradient, wanted).allSatisfy { abs($0 - $1) <= 1e-4 * size }, "\(key)")
    }
    let ofSample = try #require(found["input.sample"])
    let wanted = try golden.load("inputGradient.sample", on: device)
    #expect(try relativeError(ofSample.floats(), wanted.floats()) < 1e-4)
  }

  @Test func cotangentsThatDoNotFitAreNamed() throws {
    let device = try #require(devices.first { $0.name == "cpu" })
    let golden = try SafetensorsFile(
      url: Fixture.root.appending(path: "gradients/tiny_ddpm_unet.safetensors"))
    let scratch = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let (inputs, cotangents) = (
      scratch.appending(path: "inputs.safetensors"), scratch.appending(path: "cotangents.safetensors")
    )
    try SafetensorsWriter.write(
      [
        (name: "sample", tensor: try golden.load("input.sample", on: device)),
        (name: "timestep", tensor: try golden.load("input.timesteps", on: device)),
      ], to: inputs)
    let wrong = try Tensor.fill(1, [1, 2], on: device)
    for (name, words) in [("sample", "the output ["), ("picture", "picture")] {
      try SafetensorsWriter.write([(name: name, tensor: wrong)], to: cotangents)
      #expect {
        try ComponentCall.gradients(
          "unet", of: Fixture.root.appending(path: "tiny-ddpm/unet"), inputs: inputs, cotangents: cotangents,
          on: device)
      } throws: { "\($0)".contains(words) }
    }
  }
}
