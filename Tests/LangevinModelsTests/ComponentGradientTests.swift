import Foundation
import Langevin
import LangevinTensor
import LangevinValidation
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
    for key in expected {
      largest = try max(largest, golden.load(key, on: device).floats().map(abs).max() ?? 0)
    }
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

  /// A component of a model's folder, and the file of its inputs.
  private static let ofFolders = [
    "tiny-xl/unet", "tiny-xl/text_encoder", "tiny-xl/text_encoder_2", "tiny-xl/vae.encode",
    "tiny-xl/vae.decode",
    "tiny-unclip/prior", "tiny-unclip/prior.post_process_latents", "tiny-unclip/text_proj",
    "tiny-unclip/decoder", "tiny-unclip/super_res_first", "tiny-stable-unclip/image_normalizer.scale",
    "tiny-stable-unclip/image_normalizer.unscale",
  ]

  @Test(arguments: ofFolders) func everyComponentOfAFolder(path: String) throws {
    let parts = path.split(separator: "/").map(String.init)
    let folder = Fixture.root.appending(path: parts[0])
    try compare(
      parts[1], of: folder, inputs: folder.appending(path: "components/\(parts[1]).inputs.safetensors"))
  }

  @Test(arguments: ComponentCallTests.borrowed) func everyOtherComponent(model: ComponentCallTests.Borrowed)
    throws
  {
    let folder = FileManager.default.temporaryDirectory.appending(path: "component-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    let (inputs, _) = try model.write(to: folder)
    try compare(model.component, of: folder, inputs: inputs)
  }

  /// Gradients of each device against those of the float64 reference, for cotangents that are normal numbers.
  private func compare(_ component: String, of folder: URL, inputs: URL) throws {
    let scratch = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: scratch) }
    let cpu = try #require(devices.first { $0.name == "cpu" })
    let outputs = try ComponentCall.load(component, of: folder, on: cpu)(inputs)
    try SafetensorsWriter.write(
      outputs.enumerated().map { index, output in
        (output.name, try Tensor.normal(output.tensor.shape, seed: UInt64(index), on: cpu))
      }, to: scratch)
    func gradients(_ device: Device) throws -> [String: [Float]] {
      let (_, gradients) = try ComponentCall.gradients(
        component, of: folder, inputs: inputs, cotangents: scratch, on: device)
      return Dictionary(uniqueKeysWithValues: try gradients.map { ($0.name, try $0.tensor.floats()) })
    }
    let exact = try gradients(Device(ReferenceBackend()))
    let largest = exact.values.joined().map(abs).max() ?? 0
    #expect(!exact.isEmpty && largest > 0)
    for device in devices {
      let found = try gradients(device)
      #expect(Set(found.keys) == Set(exact.keys))
      for (name, gradient) in found {
        let wanted = exact[name] ?? []
        // What vanishes but for rounding is measured against the largest.
        let size = max(wanted.map(abs).max() ?? 0, 1e-3 * largest)
        let error = zip(gradient, wanted).reduce(0) { max($0, abs($1.0 - $1.1)) } / size
        #expect(error < 1e-3, "\(component) \(name) differs by \(error) on \(device.name)")
      }
    }
  }
}
