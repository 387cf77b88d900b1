import Foundation
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// T5's and UMT5's encoders against transformers; the fixtures are made by Tests/Golden/make_t5.py.
@Suite struct T5Tests {
  private struct Prompts {
    let ids: [[Int32]]
    let lengths: [Int]

    init(_ fixture: Fixture, on device: Device) throws {
      let tensor = try fixture.io.load("ids", on: device)
      let (flat, count) = (try tensor.int32s(), tensor.shape[1])
      ids = (0..<tensor.shape[0]).map { Array(flat[$0 * count..<($0 + 1) * count]) }
      lengths = try fixture.io.load("lengths", on: device).int32s().map(Int.init)
    }
  }

  /// `umt5_loud` has a residual of some millions: float16's largest number is 65504.
  @Test(arguments: ["umt5", "t5_relu", "t5_silu", "t5_gelu", "umt5_loud"], Setting.all)
  func encoder(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let prompts = try Prompts(fixture, on: setting.device)
    let model = try T5EncoderModel(
      T5EncoderConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    try inputs.expect(model.hiddenStates(prompts.ids, lengths: prompts.lengths), is: "last_hidden_state")
    try inputs.expect(model.hiddenStates(prompts.ids), is: "unmasked")
    try inputs.expect(model(prompts.ids, lengths: prompts.lengths), is: "zeroed")
  }

  /// Which bucket a distance falls into is a matter of float32's rounding.
  @Test(arguments: ["umt5", "t5_relu"]) func buckets(name: String) throws {
    let fixture = try Fixture(name)
    let expected = try fixture.io.load("buckets", on: devices[0]).int32s()
    let buckets = try T5EncoderConfig(fixture.config).buckets(length: 600)
    #expect(Array(buckets.prefix(600)) == Array(expected.prefix(600)))
    #expect(Array(buckets.suffix(600)) == Array(expected.suffix(600)))
  }

  /// What lies past the longest prompt is not computed, and is zero.
  @Test func padding() throws {
    let fixture = try Fixture("umt5")
    let device = devices[0]
    let model = try T5EncoderModel(T5EncoderConfig(fixture.config), fixture.weights(on: device, as: .float32))
    let whole = try model([[4, 5, 1] + Array(repeating: 0, count: 29)], lengths: [3])
    let short = try model([[4, 5, 1]], lengths: [3])
    #expect(whole.shape == [1, 32, 24])
    #expect(try whole.floats() == short.floats() + Array(repeating: 0, count: 29 * 24))
  }

  /// A decoder in the same file is passed over; the token table may have either name, or both.
  @Test func wholeCheckpoints() throws {
    let fixture = try Fixture("umt5")
    let device = devices[0]
    let prompts = try Prompts(fixture, on: device)
    let config = try T5EncoderConfig(fixture.config)
    let expected = try T5EncoderModel(config, fixture.weights(on: device, as: .float32))
      .hiddenStates(prompts.ids).floats()
    for extra in [
      "encoder.embed_tokens.weight", "decoder.block.0.layer.0.SelfAttention.q.weight", "lm_head.weight",
    ] {
      let source = ExtendedSource(fixture.source, also: [extra: "shared.weight"])
      let model = try T5EncoderModel(config, Weights(source, on: device))
      #expect(try model.hiddenStates(prompts.ids).floats() == expected)
    }
    let source = ExtendedSource(fixture.source, also: ["encoder.more.weight": "shared.weight"])
    #expect(throws: WeightError.unused(names: ["encoder.more.weight"], source: source.description)) {
      try T5EncoderModel(config, Weights(source, on: device))
    }
  }

  @Test func masks() throws {
    #expect(try T5EncoderModel.lengths(ofMask: [[true, true, false], [true, true, true]]) == [2, 3])
    #expect(throws: ModelError.self) { try T5EncoderModel.lengths(ofMask: [[true, false, true]]) }
  }

  @Test func badInput() throws {
    let fixture = try Fixture("umt5")
    let model = try T5EncoderModel(
      T5EncoderConfig(fixture.config), fixture.weights(on: devices[0], as: .float32))
    let cases: [([[Int32]], [Int]?, String)] = [
      ([], nil, "no tokens"), ([[]], nil, "no tokens"), ([[1], [1, 2]], nil, "differ in length"),
      ([[99]], nil, "token 99"), ([[-1]], nil, "token -1"), ([[1, 2]], [1, 1], "2 lengths for 1 prompts"),
      ([[1, 2]], [3], "length 3"), ([[1, 2]], [0], "length 0"),
    ]
    for (ids, lengths, reason) in cases {
      let error = #expect(throws: ModelError.self) { try model.hiddenStates(ids, lengths: lengths) }
      #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }
  }

  @Test func badConfigurations() throws {
    let cases: [(String, String)] = [
      (#"{"model_type": "mt5"}"#, "model_type"),
      (#"{"model_type": "umt5", "feed_forward_proj": "gated-mish"}"#, "gated-mish"),
      (#"{"model_type": "t5", "relative_attention_num_buckets": 6}"#, "relative_attention_num_buckets"),
      (#"{"model_type": "t5", "relative_attention_max_distance": 8}"#, "relative_attention_max_distance"),
      (#"{"model_type": "t5", "num_heads": 0}"#, "num_heads"),
    ]
    for (text, reason) in cases {
      let error = #expect(throws: ModelError.self) {
        try T5EncoderConfig(ConfigObject(json: Data(text.utf8)))
      }
      #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }
    let config = try T5EncoderConfig(ConfigObject(json: Data(#"{"model_type": "t5"}"#.utf8)))
    #expect(config.nonlinearity == .relu && !config.isGated && !config.biasInEachLayer)
  }
}

/// A source with tensors of other names added.
private final class ExtendedSource: WeightSource {
  let base: any WeightSource
  let names: [String]
  private let also: [String: String]

  init(_ base: any WeightSource, also: [String: String]) {
    (self.base, self.also) = (base, also)
    names = base.names + also.keys
  }

  var description: String { base.description }
  func spec(of name: String) -> TensorSpec? { base.spec(of: also[name] ?? name) }
  func load(_ name: String, on device: Device) throws -> Tensor {
    try base.load(also[name] ?? name, on: device)
  }
}
