import ArgumentParser
import Foundation
import Langevin

/// `langevin devices`.
struct Devices: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists every device, what was probed of it, and why one cannot be used.",
    discussion: """
      Examples:
        langevin devices
        langevin devices --json
      """)

  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    let listing = DeviceListing()
    if json { try Output.json(listing) } else { for line in listing.lines { Output.wrapped(line) } }
  }
}

/// Everything that could compute here: each provider's survey, in one text or one JSON object.
struct DeviceListing: Encodable {
  private let surveys = BackendRegistry.providers.map { $0.survey() }

  var lines: [String] { surveys.flatMap(\.lines) }

  private struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    for survey in surveys {
      for (name, value) in survey.values { try container.encode(value, forKey: Key(stringValue: name)) }
    }
  }
}
