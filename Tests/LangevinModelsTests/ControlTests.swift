import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin
@testable import LangevinModels

/// ControlNets, T2I-Adapters and IP-Adapters alone, and the UNet with what they add, against diffusers:
/// Fixtures/control, by Tests/Golden/make_control.py.
@Suite struct ControlTests {
  private static let folder = Fixture.root.appending(path: "control")

  private static func file(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(url: folder.appending(path: name + ".safetensors"))
  }

  /// Tensors of a file on a setting's device, pictures with channels last.
  private struct Tensors {
    let file: SafetensorsFile
    let setting: Setting

    init(_ name: String, _ setting: Setting) throws {
      (file, self.setting) = (try ControlTests.file(name), setting)
    }

    func callAsFunction(_ name: String) throws -> Tensor {
      let tensor = try file.load(name, on: setting.device).cast(to: setting.dtype)
      return tensor.shape.rank == 4 ? try tensor.transposed([0, 2, 3, 1]) : tensor
    }

    func list(_ name: String) throws -> [Tensor] {
      try (0..<file.names.count(where: { $0.hasPrefix(name + ".") })).map { try self("\(name).\($0)") }
    }

    func floats(_ name: String) throws -> [Float] { try file.load(name, on: setting.device).floats() }

    func expect(_ tensor: Tensor, is name: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
      let expected = try self(name)
      #expect(tensor.shape == expected.shape, sourceLocation: sourceLocation)
      let error = relativeError(try tensor.floats(), try expected.cast(to: .float32).floats())
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(file.url.lastPathComponent) \(name): \(error)")
      }
      #expect(
        error < (setting.dtype == .float32 ? 1e-4 : 2e-2), "\(name) differs by \(error)",
        sourceLocation: sourceLocation)
    }
  }

  private func conditioning(_ tensors: Tensors, rows: Range<Int> = 0..<2) throws -> UNetConditioning {
    var conditioning = UNetConditioning(context: try tensors("encoder_hidden_states").rows(rows))
    if tensors.file.names.contains("text_embeds") {
      let ids = try tensors.floats("time_ids")
      conditioning.textTime = UNetTextTime(
        textEmbeds: try tensors("text_embeds").rows(rows),
        timeIDs: rows.map { Array(ids[$0 * 6..<$0 * 6 + 6]) })
    }
    return conditioning
  }

  /// The networks of which a fixture's additions are.
  private func unet(_ name: String, _ setting: Setting) throws -> UNet2DConditionModel {
    if name.hasSuffix("sdxl") {
      let fixture = try Fixture("unet_sdxl")
      return try UNet2DConditionModel(
        UNet2DConditionConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    }
    let unet = try Checkpoint.open(Fixture.root.appending(path: "tiny-sd")).unet
    return try UNet2DConditionModel(
      UNet2DConditionConfig(unet.configuration),
      Weights(unet.weights, on: setting.device, as: setting.dtype, component: "unet"))
  }

  // MARK: Networks alone

  @Test(arguments: Setting.all, ["controlnet-first", "controlnet-sdxl", "t2i-full", "t2i-light", "t2i-sdxl"])
  func networksAreTheReferences(setting: Setting, name: String) throws {
    let outputs = try ComponentCall.load(
      name, of: Self.folder.appending(path: name), on: setting.device, as: setting.dtype)(
        Self.folder.appending(path: "\(name).inputs.safetensors"))
    let golden = try Tensors("\(name).outputs", setting)
    #expect(Set(outputs.map(\.name)) == Set(golden.file.names))
    for (output, tensor) in outputs { try golden.expect(tensor.transposed([0, 2, 3, 1]), is: output) }
  }

  /// As `langevin run unet` takes them.
  @Test(arguments: Setting.float32) func aUNetRunByItselfTakesResiduals(setting: Setting) throws {
    let outputs = try ComponentCall.load(
      "unet", of: Fixture.root.appending(path: "tiny-sd"), on: setting.device)(
        Self.folder.appending(path: "unet-sd.inputs.safetensors"))
    #expect(outputs.map(\.name) == ["sample"])
    let sample = try outputs[0].tensor.transposed([0, 2, 3, 1])
    try Tensors("unet-sd.outputs", setting).expect(sample, is: "both")
  }

  // MARK: The UNet with additions

  @Test(arguments: Setting.all, ["unet-sd", "unet-sdxl"])
  func residualsAreAddedWhereTheReferenceAddsThem(setting: Setting, name: String) throws {
    let (inputs, golden) = (try Tensors("\(name).inputs", setting), try Tensors("\(name).outputs", setting))
    let model = try unet(name, setting)
    var control = UNetAdditions()
    control.skips = try inputs.list("down_block_additional_residuals")
    control.middle = try inputs("mid_block_additional_residual")
    var adapter = UNetAdditions()
    adapter.blocks = try inputs.list("down_intrablock_additional_residuals")
    var both = control
    try both.add(adapter)
    func run(_ additions: UNetAdditions) throws -> Tensor {
      try model(
        inputs("sample"), timesteps: inputs.floats("timestep"), conditioning: conditioning(inputs),
        additions: additions)
    }
    for (name, additions) in [
      ("plain", UNetAdditions()), ("control", control), ("adapter", adapter), ("both", both),
    ] { try golden.expect(run(additions), is: name) }
  }

  @Test(arguments: Setting.all, ["ip-adapter-sdxl", "ip-adapter-plus-sdxl"])
  func imagePromptsAreTheReferences(setting: Setting, name: String) throws {
    let (inputs, golden) = (try Tensors("\(name).inputs", setting), try Tensors("\(name).outputs", setting))
    let model = try unet(name, setting)
    let adapter = try IPAdapter(
      model.config, Weights(Self.file(name), on: setting.device, as: setting.dtype))
    #expect(adapter.input == (name.contains("plus") ? .states : .embedding))
    // [N, pictures, ...]: the tokens of all pictures of an image stand one behind the other.
    let images = try inputs.file.load("images", on: setting.device).cast(to: setting.dtype)
    let parts = images.shape.dimensions
    let each = try adapter.tokens(images.reshaped(Shape([parts[0] * parts[1]] + parts[2...])))
    let tokens = try each.reshaped([parts[0], parts[1] * each.shape[1], each.shape[2]])
    try golden.expect(tokens, is: "tokens")
    for (name, scale) in [("full", Float(1)), ("weak", 0.6)] {
      let output = try model(
        inputs("sample"), timesteps: inputs.floats("timestep"), conditioning: conditioning(inputs),
        additions: adapter(tokens, scale: scale))
      try golden.expect(output, is: name)
    }
  }

  /// A residual of one image is every image's, and the sum of two networks is what both add.
  @Test(arguments: devices) func residualsOfOneImageAreEveryImages(device: Device) throws {
    let setting = Setting(device: device, dtype: .float32)
    let inputs = try Tensors("unet-sd.inputs", setting)
    let model = try unet("unet-sd", setting)
    var one = UNetAdditions()
    one.skips = try inputs.list("down_block_additional_residuals").map { try $0.rows(1..<2) }
    one.middle = try inputs("mid_block_additional_residual").rows(1..<2)
    one.blocks = try inputs.list("down_intrablock_additional_residuals").map { try $0.rows(1..<2) }
    var twice = one
    try twice.add(one)
    let doubled = try one.skips.map { try $0 * 2 }
    #expect(try twice.skips.map { try $0.floats() } == doubled.map { try $0.floats() })
    let timesteps = try inputs.floats("timestep")
    let whole = try model(
      inputs("sample"), timesteps: timesteps, conditioning: conditioning(inputs), additions: twice)
    let second = try model(
      inputs("sample").rows(1..<2), timesteps: [timesteps[1]],
      conditioning: conditioning(inputs, rows: 1..<2),
      additions: twice)
    #expect(try relativeError(whole.rows(1..<2).floats(), second.floats()) < 1e-5)
  }

  // MARK: What does not fit

  @Test func additionsThatDoNotFitAreNamed() throws {
    let setting = Setting(device: devices[0], dtype: .float32)
    let inputs = try Tensors("unet-sd.inputs", setting)
    let model = try unet("unet-sd", setting)
    func refusal(_ change: (inout UNetAdditions) throws -> Void) throws -> String {
      var additions = UNetAdditions()
      try change(&additions)
      do {
        _ = try model(
          inputs("sample"), timesteps: inputs.floats("timestep"), conditioning: conditioning(inputs),
          additions: additions)
        return ""
      } catch let error as ModelError { return "\(error)" }
    }
    let skips = try inputs.list("down_block_additional_residuals")
    #expect(try refusal { $0.skips = skips } == "")
    #expect(try refusal { $0.skips = Array(skips.dropLast()) }.hasSuffix("3 residuals for 4 skips"))
    #expect(
      try refusal { $0.skips = skips.reversed() }.contains("the residual of skip 0 is [2, 4, 6, 32]"))
    #expect(try refusal { $0.middle = skips[0] }.contains("the residual of middle 0 is [2, 8, 12, 32]"))
    #expect(try refusal { $0.blocks = [skips[0]] }.hasSuffix("1 residuals for 2 down blocks"))
    #expect(
      try refusal { $0.imagePrompts["mid_block.attn2"] = [] }.hasSuffix("no cross-attention mid_block.attn2"))
    let part = AddedAttention(keys: skips[0], values: skips[0], scale: 1)
    let name = model.config.crossAttentions[0].name
    #expect(try refusal { $0.imagePrompts[name] = [part] }.contains("expected [2, S, 32]"))
  }

  @Test func configurationsThatAreNotSupportedAreNamed() throws {
    func refusal(_ json: String) -> String {
      do {
        let config = try ConfigObject(StrictJSON(parsing: Array(json.utf8)))
        if config.model == "T2IAdapter" {
          _ = try T2IAdapterConfig(config)
        } else {
          _ = try ControlNetConfig(config)
        }
        return ""
      } catch { return "\(error)" }
    }
    #expect(refusal(#"{"_class_name": "ControlNetModel"}"#) == "")
    #expect(refusal(#"{"_class_name": "T2IAdapter"}"#) == "")
    #expect(
      refusal(#"{"_class_name": "ControlNetModel", "global_pool_conditions": true}"#)
        .hasPrefix("ControlNetModel: global_pool_conditions = true in config.json is not supported"))
    #expect(
      refusal(#"{"_class_name": "ControlNetModel", "controlnet_conditioning_channel_order": "bgr"}"#)
        .contains("bgr"))
    #expect(
      refusal(#"{"_class_name": "ControlNetModel", "act_fn": "gelu"}"#).hasPrefix("ControlNetModel: act_fn"))
    #expect(
      refusal(#"{"_class_name": "T2IAdapter", "adapter_type": "heavy_adapter"}"#).contains("heavy_adapter"))
    #expect(
      refusal(#"{"_class_name": "T2IAdapter", "adapter_type": "full_adapter_xl", "channels": [1, 2, 3, 4]}"#)
        .contains("one width from the third block on"))
  }

  @Test func picturesOfOtherSizesAreRefused() throws {
    let device = devices[0]
    func refusal(_ name: String, _ shape: Shape) throws -> String {
      let component = try ModelFolder.component(Self.folder.appending(path: name))
      let weights = Weights(component.weights, on: device)
      let picture = try Tensor.fill(0, shape, on: device)
      do {
        if component.className == "T2IAdapter" {
          _ = try T2IAdapter(T2IAdapterConfig(component.configuration), weights)(picture)
        } else {
          _ = try ControlNetModel(ControlNetConfig(component.configuration), weights).hint(picture)
        }
        return ""
      } catch let error as ModelError { return "\(error)" }
    }
    #expect(try refusal("controlnet-first", [1, 4, 6, 3]) == "")
    #expect(try refusal("controlnet-first", [1, 5, 6, 3]).hasSuffix("[N, H, W, 3] of multiples of 2"))
    #expect(try refusal("t2i-full", [1, 8, 12, 3]) == "")
    #expect(try refusal("t2i-full", [1, 8, 10, 3]).hasSuffix("[N, H, W, 3] of multiples of 4"))
    #expect(try refusal("t2i-light", [1, 8, 12, 3]) == "")
    #expect(try refusal("t2i-light", [1, 8, 10, 3]).hasSuffix("[N, H, W, 3] of multiples of 4"))
    #expect(try refusal("t2i-full", [1, 8, 12, 1]).hasSuffix("[N, H, W, 3] of multiples of 4"))
  }
}
