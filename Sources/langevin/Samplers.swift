import ArgumentParser
import Foundation
import Langevin
import LangevinDiffusion

/// `langevin samplers`.
struct Samplers: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the samplers: what each is for, what it costs, and which spacings it takes.",
    discussion: """
      Examples:
        langevin samplers
      """)

  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    let listing = SamplerListing()
    if json { try Output.json(listing) } else { for line in listing.lines { Output.wrapped(line) } }
  }
}

/// Every sampler with what the library says of it.
private struct SamplerListing: Encodable {
  struct Row: Encodable {
    let name: String
    let purpose: String
    let stochastic: Bool
    let order: Int
    let callsPerStep: Int
    let flowMatching: Bool
    let spacings: [String]

    init(_ sampler: SamplerChoice) {
      name = sampler.name
      purpose = sampler.purpose
      stochastic = sampler.isStochastic
      order = sampler.order
      callsPerStep = sampler.callsPerStep
      flowMatching = sampler.followsFlows
      spacings = sampler.spacings
    }
  }

  let samplers = SamplerRegistry.all.map(Row.init)

  var lines: [String] {
    samplers.flatMap { row in
      [
        "\(row.name): \(row.purpose)",
        "  \(row.stochastic ? "stochastic" : "repeatable"), order \(row.order), "
          + "\(row.callsPerStep) \(row.callsPerStep == 1 ? "call" : "calls") of the network a step"
          + (row.flowMatching ? ", flow matching too" : ""),
        "  spacings: \(row.spacings.isEmpty ? "its own" : row.spacings.joined(separator: ", "))",
      ]
    }
  }
}
