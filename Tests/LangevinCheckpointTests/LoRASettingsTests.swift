import Foundation
import LangevinCPU
import LangevinTensor
import Testing

@testable import Langevin

/// PEFT's settings beside an adapter's tensors, and in diffusers' files.
@Suite struct LoRASettingsTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  /// PEFT 0.21 writes these for a LoRA of its own defaults.
  private static let usual = """
    "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null, \
    "base_model_name_or_path": "org/name", "bias": "none", "corda_config": null, "ensure_weight_tying": \
    false, "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true, \
    "init_lora_weights": true, "layer_replication": null, "layers_pattern": null, "layers_to_transform": \
    null, "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.1, \
    "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null, "peft_type": \
    "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4, "rank_pattern": {}, "revision": \
    null, "target_modules": ["conv_in"], "target_parameters": null, "task_type": null, \
    "trainable_token_indices": null, "use_bdlora": null, "use_dora": false, "use_qalora": false, \
    "use_rslora": false
    """

  /// A folder as PEFT writes it, of a LoRA of rank 4.
  private func folder(_ settings: String) throws -> LoRAFile {
    let folder = temporary.url.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let cpu = Device(CPUBackend())
    let name = "base_model.model.conv_in.lora_"
    try SafetensorsWriter.write(
      [
        ("\(name)A.weight", try Tensor.fill(0.5, [4, 4, 3, 3], on: cpu)),
        ("\(name)B.weight", try Tensor.fill(0.5, [32, 4, 1, 1], on: cpu)),
      ], metadata: [:], to: folder.appendingPathComponent("adapter_model.safetensors"))
    try Data("{\(settings)}".utf8).write(to: folder.appendingPathComponent("adapter_config.json"))
    return try LoRAFile(url: folder)
  }

  private func scale(_ settings: String) throws -> Float {
    try #require(try folder(settings).changes.first).scale
  }

  /// The same settings with others in the place of some.
  private static func usual(with key: String, _ value: String) -> String {
    let others = usual.components(separatedBy: ", \"").map { $0.hasPrefix("\"") ? $0 : "\"" + $0 }
      .filter { !$0.hasPrefix("\"\(key)\"") }
    return (others + ["\"\(key)\": \(value)"]).joined(separator: ", ")
  }

  @Test func whatPEFTUsuallyWritesIsRead() throws { #expect(try scale(Self.usual) == 2) }

  @Test(arguments: [
    ("layers_to_transform", "[0, 1]", Float(2)), ("layers_pattern", "\"blocks\"", 2),
    ("target_modules", "\"all-linear\"", 2), ("exclude_modules", "[\"a\"]", 2), ("lora_dropout", "0.5", 2),
    ("init_lora_weights", "\"gaussian\"", 2), ("init_lora_weights", "false", 2), ("modules_to_save", "[]", 2),
    ("runtime_config", "{\"ephemeral_gpu_offload\": false}", 2), ("velora_config", "{\"num_groups\": 64}", 2),
    ("a_setting_of_tomorrow", "null", 2), ("use_rslora", "true", 4), ("rank_pattern", "{\"conv_in\": 9}", 2),
    ("alpha_pattern", "{\"conv_in\": 2}", 0.5), ("alpha_pattern", "{\"conv_out\": 2}", 2),
    ("alpha_pattern", "null", 2),
  ])
  func settingsThatChangeNoOtherWeightsPass(key: String, value: String, scale: Float) throws {
    #expect(try self.scale(Self.usual(with: key, value)) == scale)
  }

  @Test(arguments: [
    ("fan_in_fan_out", "true"), ("lora_bias", "true"), ("bias", "\"lora_only\""),
    ("modules_to_save", "[\"conv_out\"]"), ("init_lora_weights", "\"pissa_niter_4\""),
    ("init_lora_weights", "\"olora\""), ("use_qalora", "true"), ("layer_replication", "[[0, 4], [2, 6]]"),
    ("trainable_token_indices", "[1, 2]"), ("target_parameters", "[\"weight\"]"), ("peft_type", "\"OFT\""),
    ("alora_invocation_tokens", "[3]"), ("arrow_config", "{\"top_k\": 3}"), ("kasa_config", "{\"beta\": 1}"),
    ("a_setting_of_tomorrow", "\"on\""),
  ])
  func otherSettingsAreRefusedByName(key: String, value: String) throws {
    let error = try #require(throws: AdapterError.self) { try folder(Self.usual(with: key, value)) }
    guard case .setting(let path, let name, let text) = error else {
      Issue.record("\(error)")
      return
    }
    let compact = value.replacing(": ", with: ":").replacing(", ", with: ",")
    #expect(path.hasSuffix("adapter_config.json") && name == key && text == compact)
    #expect("\(error)".contains("'\(key)' is \(compact)"))
  }

  @Test func normsThatTheSettingsPromiseAreMissed() throws {
    let error = try #require(throws: AdapterError.self) { try folder(Self.usual(with: "use_dora", "true")) }
    #expect("\(error)".contains("'lora_magnitude_vector.weight'"), "\(error)")
    #expect(throws: CheckpointError.self) { try folder(Self.usual(with: "use_dora", "1")) }
  }

  /// What a file of diffusers says of one network is said of that alone.
  @Test func settingsInAFileAreRefusedToo() throws {
    func file(_ text: String) throws -> LoRAFile {
      let url = temporary.url.appendingPathComponent("\(UUID().uuidString).safetensors")
      let cpu = Device(CPUBackend())
      try SafetensorsWriter.write(
        [
          ("unet.conv_in.lora_A.weight", try Tensor.fill(0.5, [4, 4, 3, 3], on: cpu)),
          ("unet.conv_in.lora_B.weight", try Tensor.fill(0.5, [32, 4, 1, 1], on: cpu)),
        ], metadata: [LoRAMetadata.key: text], to: url)
      return try LoRAFile(url: url)
    }
    let scale = try file("{\"unet.r\": 4, \"unet.lora_alpha\": 8, \"unet.lora_bias\": false}").changes[0]
      .scale
    #expect(scale == 2)
    let error = try #require(throws: AdapterError.self) {
      try file("{\"unet.r\": 4, \"unet.lora_bias\": true}")
    }
    #expect("\(error)".contains("'lora_bias' is true"), "\(error)")
  }
}
