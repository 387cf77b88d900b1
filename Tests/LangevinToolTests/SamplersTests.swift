import Foundation
import Langevin
import LangevinDiffusion
import Testing

/// `langevin samplers`, and the options that choose a sampler's levels and guidance.
struct SamplersTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test func everySamplerIsListed() throws {
    let text = try Tool.run(["samplers"], in: scratch.folder)
    #expect(text.status == 0 && text.errors.isEmpty)
    for sampler in SamplerRegistry.all {
      #expect(text.output.contains("\(sampler.name): \(sampler.purpose)\n"))
    }

    struct Listing: Decodable {
      struct Row: Decodable {
        var name: String
        var stochastic: Bool
        var order: Int
        var callsPerStep: Int
        var flowMatching: Bool
        var spacings: [String]
      }
      var samplers: [Row]
    }
    let json = try Tool.run(["samplers", "--json"], in: scratch.folder)
    let listing = try JSONDecoder().decode(Listing.self, from: Data(json.output.utf8))
    #expect(listing.samplers.map(\.name) == SamplerRegistry.all.map(\.name))
    for (row, sampler) in zip(listing.samplers, SamplerRegistry.all) {
      #expect(row.stochastic == sampler.isStochastic && row.order == sampler.order)
      #expect(row.callsPerStep == sampler.callsPerStep && row.flowMatching == sampler.followsFlows)
      #expect(row.spacings == sampler.spacings)
    }
  }

  /// Each option changes the picture, and the PNG says so.
  @Test func levelsAndGuidanceAreTheUsers() throws {
    let common = ["--device", "cpu", "--sampler", "euler", "--seed", "3", "--guidance", "4"]
    func picture(_ name: String, _ options: [String]) throws -> (Picture, [String: String]) {
      let outcome = try Tool.generate(common + options + ["--output", name], in: scratch.folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      let read = try Picture.read(scratch.url(name))
      return (read.picture, read.texts)
    }
    let (plain, _) = try picture("plain.png", ["--steps", "4"])
    let variants: [(String, [String], String)] = [
      ("karras.png", ["--steps", "4", "--spacing", "karras"], "Schedule type: Karras"),
      ("sigmas.png", ["--sigmas", "12,5,2,0.5,0"], "Sigmas: 12 5 2 0.5 0"),
      ("rescale.png", ["--steps", "4", "--guidance-rescale", "0.7"], "CFG rescale: 0.7"),
      ("interval.png", ["--steps", "4", "--guidance-interval", "0.3,5"], "CFG interval: 0.3 5"),
    ]
    var seen = [plain]
    for (name, options, words) in variants {
      let (picture, texts) = try picture(name, options)
      #expect(texts.values.contains { $0.contains(words) && $0.contains("Steps: 4") }, "\(name): \(texts)")
      #expect(!seen.contains(picture), "\(name)")
      seen.append(picture)
    }
    // An interval that holds all of the noise is no interval.
    #expect(try picture("all.png", ["--steps", "4", "--guidance-interval", "0,1000000"]).0 == plain)
  }
}
