import Foundation
import Langevin
import LangevinDiffusion
import LangevinTensor
import Testing

/// LoRA and textual inversion files, in every layout, against what diffusers' pipelines draw with them:
/// Tests/Golden/make_adapters.py, and make_lycoris.py for LoRA's relatives.
@Suite struct AdapterTests {
  private struct Run: Decodable {
    let model, prompt: String
    let seed: UInt64
    var lora, embedding: [String]?
    var sampler: String?
  }

  private static let folders = ["adapters": 14, "lycoris": 16]

  private static func folder(_ name: String) -> URL { Fixture.root.appending(path: name) }

  private static func runs(_ folder: String) throws -> [String: Run] {
    try JSONDecoder().decode(
      [String: Run].self, from: Data(contentsOf: Self.folder(folder).appending(path: "runs.json")))
  }

  private func checkpoint(_ run: Run, in folder: String) throws -> Checkpoint {
    func split(_ text: String) -> (URL, String?) {
      let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
      return (Self.folder(folder).appending(path: parts[0]), parts.count > 1 ? parts[1] : nil)
    }
    let loras = try (run.lora ?? []).map { text in
      let (url, scale) = split(text)
      return (file: try LoRAFile(url: url), scale: try scale.map { try #require(Float($0)) } ?? 1)
    }
    let embeddings = try (run.embedding ?? []).map { text in
      let (url, token) = split(text)
      return try TextualInversion(url: url, token: token)
    }
    return try Checkpoint.open(Fixture.root.appending(path: run.model)).merging(loras).adding(embeddings)
  }

  @Test(arguments: Setting.all, folders.keys.sorted())
  func picturesAreThoseOfDiffusers(setting: Setting, folder: String) throws {
    let golden = try SafetensorsFile(url: Self.folder(folder).appending(path: "pictures.safetensors"))
    let runs = try Self.runs(folder)
    #expect(runs.count == Self.folders[folder])
    for (name, run) in runs.sorted(by: { $0.key < $1.key }) {
      var request = GenerationRequest(prompt: run.prompt)
      (request.negativePrompt, request.guidance, request.steps) = ("heart", 4, 4)
      (request.seed, request.noise) = (run.seed, .torch)
      request.sampler = try run.sampler.map { try #require(SamplerChoice(named: $0)) }
      let pipeline = try Pipelines.open(
        checkpoint(run, in: folder), on: setting.device, precision: setting.dtype)
      let result = try pipeline.generate(request)
      let expected = try golden.load("\(name).latents", on: setting.device).floats()
      let error = relativeError(result.latents.values, expected)
      // Of 0...1 to the -1...1 of a decoder.
      let picture = try Picture(
        golden.load("\(name).picture", on: setting.device).transposed([0, 2, 3, 1])
          .affine(scale: 2, offset: -1))
      let levels = zip(result.pictures[0].pixels, picture.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 256
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(name): \(error), \(levels) levels")
      }
      // Float16 storage is multiplied by the guidance and carried through the steps.
      let isSingle = setting.dtype == .float32
      #expect(error < (isSingle ? 1e-4 : 2e-2), "\(name) differs by \(error)")
      #expect(levels <= (isSingle ? 2 : 5), "\(name) differs by \(levels) levels")
    }
  }
}
