import Foundation
import LangevinDiffusion
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin
@testable import LangevinModels

/// Caches that leave out work of a UNet, against their authors' own over diffusers' pipelines; what those made is made by
/// Tests/Golden/make_caches.py.
@Suite struct CacheTests {
  private struct Run: Decodable {
    let model, sampler, prompt, negativePrompt: String
    var cache: String?
    let steps, width, height: Int
    let guidance: Double
    let seed: UInt64
  }

  private static let folder = Fixture.root.appending(path: "caches")

  private func open(_ model: String, _ setting: Setting) throws -> any Pipeline {
    try Pipelines.open(
      Checkpoint.open(Fixture.root.appending(path: model)), on: setting.device, precision: setting.dtype)
  }

  private var plain: Setting { Setting(device: devices[0], dtype: .float32) }

  private func request(_ run: Run) throws -> GenerationRequest {
    var request = GenerationRequest(prompt: run.prompt)
    request.negativePrompt = run.negativePrompt
    (request.width, request.height, request.steps) = (run.width, run.height, run.steps)
    (request.guidance, request.seed, request.noise) = (run.guidance, run.seed, .torch)
    request.sampler = SamplerChoice(named: run.sampler)
    request.cache = try run.cache.map { try #require(UNetCache($0)) }
    return request
  }

  private func runs() throws -> [String: Run] {
    try JSONDecoder().decode(
      [String: Run].self, from: Data(contentsOf: Self.folder.appending(path: "runs.json")))
  }

  @Test(arguments: Setting.all) func latentsAreThoseOfTheReferences(setting: Setting) throws {
    let golden = try SafetensorsFile(url: Self.folder.appending(path: "latents.safetensors"))
    for (name, run) in try runs().sorted(by: { $0.key < $1.key }) {
      // With other rounding other tokens are merged.
      if run.cache?.hasPrefix("tome") == true, setting.dtype != .float32 { continue }
      let latents = try open(run.model, setting).generate(request(run)).latents
      let expected = try golden.load(name, on: setting.device)
      #expect(latents.shape == expected.shape)
      let error = relativeError(latents.values, try expected.floats())
      #expect(error < (setting.dtype == .float32 ? 2e-3 : 2e-2), "\(name) differs by \(error)")
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(name): \(error)")
      }
    }
  }

  /// They change the picture, some more than the tolerance of the test above would let pass.
  @Test func eachCacheHasADeviationOfItsOwn() throws {
    var seen: [[Float]] = []
    var run = try #require(runs()["sd.none"])
    let caches = [
      nil, "deepcache:2", "deepcache:3", "deepcache:3:2", "tgate:2", "tome:0.25", "tome:0.5",
    ]
    for cache in caches {
      run.cache = cache
      let values = try open(run.model, plain).generate(request(run)).latents.values
      #expect(seen.allSatisfy { relativeError($0, values) > 5e-3 }, "\(cache ?? "none")")
      seen.append(values)
    }
  }

  /// Pictures of a batch are what they are alone, under guidance that is not used everywhere, too, and with a sampler
  /// that calls the network twice a step.
  @Test func picturesOfABatchAreWhatTheyAreAlone() throws {
    for cache in ["deepcache:2", "tgate:2", "tome:0.5"] {
      var request = GenerationRequest(prompt: "a face")
      (request.steps, request.sampler, request.guidanceInterval) = (5, .heun, 0.3...8)
      (request.count, request.batch, request.cache) = (2, 2, UNetCache(cache))
      let both = try open("tiny-sd", plain).generate(request).latents.values
      request.count = 1
      let alone = try open("tiny-sd", plain).generate(request).latents.values
      #expect(relativeError(Array(both.prefix(alone.count)), alone) < 1e-5, "\(cache)")
    }
  }

  // MARK: The UNet

  private func unet() throws -> UNet2DConditionModel {
    let unet = try Checkpoint.open(Fixture.root.appending(path: "tiny-sd")).unet
    return try UNet2DConditionModel(
      UNet2DConditionConfig(unet.configuration),
      Weights(unet.weights, on: devices[0], as: .float32, component: "unet"))
  }

  private func drawn(_ shape: Shape, _ seed: UInt64) throws -> Tensor {
    try Tensor.normal(shape, seed: seed, on: devices[0])
  }

  /// For the same input what is reused is what would be computed, from every branch on, whatever other networks add.
  @Test func forTheSameInputNothingChanges() throws {
    let unet = try unet()
    #expect(unet.config.skipCount == 4)
    let (x, context) = (try drawn([2, 8, 12, 4], 1), try drawn([2, 5, 64], 2))
    var base = UNetAdditions()
    base.skips = try unet.config.skipShapes(height: 8, width: 12).enumerated().map {
      try drawn(Shape([2] + $1.dimensions), UInt64(10 + $0))
    }
    base.blocks = try unet.config.blockShapes(height: 8, width: 12).enumerated().map {
      try drawn(Shape([2] + $1.dimensions), UInt64(20 + $0))
    }
    func output(_ x: Tensor, _ additions: UNetAdditions, time: Float = 100) throws -> [Float] {
      try unet(
        x, timesteps: [time, time], conditioning: UNetConditioning(context: context), additions: additions
      ).floats()
    }
    let whole = try output(x, base)
    let other = try drawn([2, 8, 12, 4], 3)
    var last = Float.infinity
    for branch in 0..<4 {
      let kept = KeptTensors()
      var additions = base
      additions.deepFeatures = DeepFeatures(kept, branch: branch, isReused: false)
      #expect(try output(x, additions) == whole)
      additions.deepFeatures = DeepFeatures(kept, branch: branch, isReused: true)
      #expect(try output(x, additions) == whole, "branch \(branch)")
      // Of another input the more is right, the more is computed.
      let error = relativeError(try output(other, additions, time: 80), try output(other, base, time: 80))
      #expect(error > 1e-3 && error < last, "branch \(branch): \(error)")
      last = error
    }
    for use in [CrossAttentionOutputs.Use.keep, .keepMeanOfHalves] {
      let kept = KeptTensors()
      var additions = base
      additions.crossAttention = CrossAttentionOutputs(kept, use)
      #expect(relativeError(try output(x, additions), whole) < 1e-5)
      additions.crossAttention = CrossAttentionOutputs(kept, .reuse)
      guard case .keep = use else { continue }
      #expect(relativeError(try output(x, additions), whole) < 1e-5)
    }
  }

  @Test func whatWasNotKeptCannotBeReused() throws {
    let unet = try unet()
    let (x, context) = (try drawn([1, 8, 8, 4], 1), try drawn([1, 5, 64], 2))
    var deep = UNetAdditions()
    deep.deepFeatures = DeepFeatures(KeptTensors(), isReused: true)
    var cross = UNetAdditions()
    cross.crossAttention = CrossAttentionOutputs(KeptTensors(), .reuse)
    var branch = UNetAdditions()
    branch.deepFeatures = DeepFeatures(KeptTensors(), branch: 4, isReused: false)
    var merging = UNetAdditions()
    merging.mergedTokens = 0.8
    for (additions, words) in [
      (deep, "no earlier call has kept"), (cross, "no earlier call has kept"),
      (branch, "a branch at skip 4 of 4"), (merging, "0.8 of the tokens"),
    ] {
      let error = #expect(throws: ModelError.self) {
        try unet(x, timesteps: [1], conditioning: UNetConditioning(context: context), additions: additions)
      }
      #expect("\(error.map { "\($0)" } ?? "")".contains(words), "\(String(describing: error))")
    }
  }

  // MARK: Token merging

  /// Four columns and two rows; the upper left of each square stays, and of the other six the three that are most like
  /// one of them join it.
  @Test func tokensJoinTheOneThatTheyAreLike() throws {
    let (a, b): ([Float], [Float]) = ([1, 0], [0, 1])
    let near: [Float] = [3, 0.3]
    let tokens: [[Float]] = [a, [-2, 0.1], b, [0, 5], [0.1, -1], near, [0.2, 4], [-1, -1]]
    let x = try Tensor(tokens.flatMap { $0 }, [1, 8, 2], on: devices[0])
    let merging = try #require(try TokenMerging(x, height: 2, width: 4, ratio: 0.375))
    #expect(merging.count == 5)
    // [0, 5], [0.2, 4] and near join b, b and a.
    let merged = try merging.merge(x)
    let expected: [Float] = [0.1, -1, -2, 0.1, -1, -1, 2, 0.15, 0.2 / 3, 10.0 / 3]
    let means = try merged.floats()
    #expect(relativeError(means, expected) < 1e-6, "\(means)")
    let back = try merging.unmerge(merged).floats()
    let places = [3, 1, 4, 4, 0, 3, 4, 2]
    #expect(relativeError(back, places.flatMap { [expected[2 * $0], expected[2 * $0 + 1]] }) < 1e-6)
    // Nothing to merge, and no squares.
    #expect(try TokenMerging(x, height: 2, width: 4, ratio: 0.1) == nil)
    #expect(try TokenMerging(x, height: 1, width: 8, ratio: 0.5) == nil)
  }

  // MARK: Refusals

  @Test func whatCannotBeIsRefused() throws {
    for text in ["", "deepcache", "deepcache:x", "deepcache:3:1:2", "tgate:1.5", "tome", "tome:a", "other:3"]
    {
      #expect(UNetCache(text) == nil, "\(text)")
    }
    for text in ["deepcache:3", "deepcache:2:5", "tgate:10", "tome:0.5"] {
      #expect(UNetCache(text)?.text == text)
    }
    for (text, words) in [
      ("deepcache:1", "2 to 10000"), ("deepcache:2:4", "branches 0 to 3"),
      ("deepcache:2:-1", "branches 0 to 3"),
      ("tgate:0", "1 or more"), ("tgate:6", "below the 6"), ("tome:0", "above 0"),
      ("tome:0.9", "at most 0.75"),
      ("tome:nan", "above 0"),
    ] {
      var request = GenerationRequest(prompt: "a face")
      (request.steps, request.cache) = (6, UNetCache(text))
      let error = #expect(throws: GenerationError.self) { try open("tiny-sd", plain).resolved(request) }
      let line = "\(error.map { "\($0)" } ?? "")"
      #expect(line.contains(words) && line.contains("the cache \(text.prefix(5))"), "\(line)")
    }
    for model in ["tiny-ddpm", "tiny-wan"] {
      var request = GenerationRequest(prompt: "")
      (request.prompts, request.cache) = (model == "tiny-wan" ? ["a cat"] : [], .deepCache(interval: 2))
      let error = #expect(throws: GenerationError.self) { try open(model, plain).resolved(request) }
      #expect("\(error.map { "\($0)" } ?? "")".contains("no use for the setting 'cache'"))
    }
  }
}
