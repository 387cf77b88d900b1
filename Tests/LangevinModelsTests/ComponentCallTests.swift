import Foundation
import Langevin
import LangevinTensor
import Testing

/// Components called by themselves, with files as the reference's user writes them (ids and timesteps are int64):
/// Fixtures/tiny-xl/components, by Tests/Golden/make_more_pipelines.py.
@Suite struct ComponentCallTests {
  private let model = Fixture.root.appending(path: "tiny-xl")

  private func file(_ name: String) -> URL {
    model.appending(path: "components/\(name).safetensors")
  }

  @Test(
    arguments: Setting.all, ["unet", "text_encoder", "text_encoder_2", "vae.encode", "vae.decode"])
  func outputsAreTheReferences(setting: Setting, name: String) throws {
    let outputs = try ComponentCall.load(
      name, of: model, on: setting.device, as: setting.dtype)(file("\(name).inputs"))
    let golden = try SafetensorsFile(url: file("\(name).outputs"))
    #expect(Set(outputs.map(\.name)) == Set(golden.names))
    for (output, tensor) in outputs {
      let expected = try golden.load(output, on: setting.device)
      #expect(tensor.shape == expected.shape && tensor.dtype == .float32)
      let error = relativeError(try tensor.floats(), try expected.floats())
      #expect(error < (setting.dtype == .float32 ? 1e-4 : 2e-2), "\(name) \(output) differs by \(error)")
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(name) \(output): \(error)")
      }
    }
  }

  /// unCLIP's: Fixtures/tiny-*unclip/components, by Tests/Golden/make_unclip_pipelines.py.
  @Test(
    arguments: Setting.all,
    [
      "tiny-unclip/prior", "tiny-unclip/prior.post_process_latents", "tiny-unclip/text_proj",
      "tiny-unclip/decoder", "tiny-unclip/super_res_first", "tiny-unclip/super_res_last",
      "tiny-stable-unclip/image_normalizer.scale", "tiny-stable-unclip/image_normalizer.unscale",
    ])
  func unCLIPOutputsAreTheReferences(setting: Setting, path: String) throws {
    let parts = path.split(separator: "/").map(String.init)
    let folder = Fixture.root.appending(path: parts[0])
    let file = folder.appending(path: "components/\(parts[1])")
    let outputs = try ComponentCall.load(
      parts[1], of: folder, on: setting.device, as: setting.dtype)(
        file.appendingPathExtension("inputs.safetensors"))
    let golden = try SafetensorsFile(url: file.appendingPathExtension("outputs.safetensors"))
    #expect(Set(outputs.map(\.name)) == Set(golden.names))
    for (output, tensor) in outputs {
      let expected = try golden.load(output, on: setting.device)
      #expect(tensor.shape == expected.shape && tensor.dtype == .float32)
      let error = relativeError(try tensor.floats(), try expected.floats())
      #expect(error < (setting.dtype == .float32 ? 1e-4 : 2e-2), "\(path) \(output) differs by \(error)")
    }
  }

  /// The folder of one component, whatever it is called.
  @Test func aComponentsFolderIsEnoughAndItIsLoadedOnce() throws {
    let url = model.appending(path: "unet")
    let unet = try ComponentCall.load("unet", of: url, on: devices[0])
    let outputs = try unet(file("unet.inputs"))
    #expect(outputs.map(\.name) == ["sample"])
    let again = try unet(file("unet.inputs"))[0].tensor.floats()
    #expect(try again == outputs[0].tensor.floats())
  }

  @Test func whatIsMissingUnknownOrLeftOverIsNamed() throws {
    func refusal(_ name: String, _ inputs: String) -> String {
      do {
        _ = try ComponentCall.load(name, of: model, on: devices[0])(file(inputs))
        return ""
      } catch { return "\(error)" }
    }
    #expect(refusal("prior", "unet.inputs").contains("the component prior is missing"))
    #expect(refusal("vae", "vae.decode.inputs").contains("vae.encode, vae.decode"))
    #expect(refusal("vae.decode", "vae.encode.inputs").contains("no tensor 'z'"))
    #expect(refusal("text_encoder", "unet.inputs").contains("no tensor 'input_ids'"))
    let missing = refusal("unet", "text_encoder.inputs")
    #expect(missing.contains("no tensor 'sample'"), "\(missing)")
    let more = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: more) }
    let z = try SafetensorsFile(url: file("vae.decode.inputs")).load("z", on: devices[0])
    try SafetensorsWriter.write([("z", z), ("noise", z)], to: more)
    #expect(throws: CheckpointError.unknownTensors(path: more.path, names: ["noise"])) {
      try ComponentCall.load("vae.decode", of: model, on: devices[0])(more)
    }
    let scheduler = refusal("scheduler", "unet.inputs")
    #expect(scheduler.contains("config.json: no such file"), "\(scheduler)")
  }

  /// A fixture of the models' own tests, as a component's folder: its tensors under the reference's names.
  struct Borrowed: Sendable, CustomTestStringConvertible {
    let fixture, component, className: String
    /// The fixture's name, then the reference's.
    let inputs, outputs: [String: String]
    var testDescription: String { "\(fixture) \(component)" }

    /// Writes the component's folder, with its inputs in a file beside it.
    func write(to folder: URL) throws -> (inputs: URL, io: SafetensorsFile) {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let source = Fixture.root.appending(path: fixture)
      var config =
        try JSONSerialization.jsonObject(with: Data(contentsOf: source.appending(path: "config.json")))
        as? [String: Any] ?? [:]
      config["architectures"] = [className]
      try JSONSerialization.data(withJSONObject: config).write(to: folder.appending(path: "config.json"))
      try FileManager.default.createSymbolicLink(
        at: folder.appending(path: "model.safetensors"),
        withDestinationURL: source.appending(path: "weights.safetensors"))
      let io = try SafetensorsFile(url: source.appending(path: "io.safetensors"))
      let inputs = folder.appending(path: "inputs.safetensors")
      try SafetensorsWriter.write(self.inputs.map { ($1, try io.load($0, on: devices[0])) }, to: inputs)
      return (inputs, io)
    }
  }

  static let borrowed = [
    Borrowed(
      fixture: "prior_karlo", component: "prior", className: "PriorTransformer",
      inputs: [
        "sample": "hidden_states", "timesteps": "timestep", "embedding": "proj_embedding",
        "text": "encoder_hidden_states", "mask": "attention_mask",
      ], outputs: ["output": "predicted_image_embedding"]),
    Borrowed(
      fixture: "text_proj", component: "text_proj", className: "UnCLIPTextProjModel",
      inputs: ["image": "image_embeddings", "prompt": "prompt_embeds", "text": "text_encoder_hidden_states"],
      outputs: [
        "guided.context": "text_encoder_hidden_states", "guided.time": "additive_clip_time_embeddings",
      ]),
    Borrowed(
      fixture: "wan_transformer", component: "transformer", className: "WanTransformer3DModel",
      inputs: ["latent": "hidden_states", "timesteps": "timestep", "text": "encoder_hidden_states"],
      outputs: ["output": "sample"]),
    Borrowed(
      fixture: "wan_vae", component: "vae.decode", className: "AutoencoderKLWan", inputs: ["latent": "z"],
      outputs: ["decoded": "sample"]),
    Borrowed(
      fixture: "wan_vae", component: "vae.encode", className: "AutoencoderKLWan", inputs: ["video": "x"],
      outputs: ["mean": "mean", "logvar": "logvar"]),
    Borrowed(
      fixture: "umt5", component: "text_encoder", className: "UMT5EncoderModel", inputs: ["ids": "input_ids"],
      outputs: ["unmasked": "last_hidden_state"]),
    Borrowed(
      fixture: "vision_projection", component: "image_encoder", className: "CLIPVisionModelWithProjection",
      inputs: ["pictures": "pixel_values"],
      outputs: [
        "image_embeds": "image_embeds", "last_hidden_state": "last_hidden_state",
        "hidden_penultimate": "hidden_states.-2",
      ]),
    Borrowed(
      fixture: "unet2d_cifar10", component: "unet", className: "UNet2DModel",
      inputs: ["sample": "sample", "timesteps": "timestep"], outputs: ["output": "sample"]),
  ]

  @Test(arguments: borrowed)
  func everyModelCanBeCalled(_ model: Borrowed) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "component-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    let (inputs, io) = try model.write(to: folder)
    for device in devices {
      let outputs = try ComponentCall.load(model.component, of: folder, on: device)(inputs)
      #expect(Set(outputs.map(\.name)) == Set(model.outputs.values))
      for (theirs, name) in model.outputs {
        let tensor = try #require(outputs.first { $0.name == name }?.tensor)
        let expected = try io.load(theirs, on: device)
        #expect(tensor.shape == expected.shape)
        let error = relativeError(try tensor.floats(), try expected.floats())
        #expect(error < 1e-4, "\(name) differs by \(error) on \(device.name)")
      }
    }
  }
}
