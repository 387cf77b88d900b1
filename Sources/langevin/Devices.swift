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
        langevin devices --measure
      """)

  @Flag(help: "Measure a small step on every device anew, by which --device auto chooses.")
  var measure = false
  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    Interrupt.install()
    if measure {
      _ = try DeviceRanking(
        of: BackendRegistry.devices, anew: true, trying: Tool.selfTest, notice: { Output.notice($0) })
    }
    let listing = DeviceListing()
    if json { try Output.json(listing) } else { for line in listing.lines { Output.wrapped(line) } }
  }
}

/// Everything that could compute here: each provider's survey, in one text or one JSON object.
struct DeviceListing: Encodable {
  private let surveys = BackendRegistry.providers.map { $0.survey() }

  /// What `auto` chooses by.
  private let speeds: DeviceSpeeds

  init(kept: KeptSpeeds = KeptSpeeds()) { speeds = DeviceSpeeds(kept) }

  var lines: [String] { surveys.flatMap(\.lines) + speeds.lines }

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
    try container.encode(speeds.seconds, forKey: Key(stringValue: "smallStepSeconds"))
  }
}

/// How long a small step takes on each device that was measured.
private struct DeviceSpeeds {
  /// By the device's name.
  var seconds: [String: Double] = [:]
  var lines: [String] = []

  init(_ kept: KeptSpeeds) {
    let known = BackendRegistry.devices.compactMap { device in
      kept.seconds(of: device).map { DeviceRanking.Place(device: device, seconds: $0) }
    }.sorted { $0.seconds < $1.seconds }
    for place in known { seconds[place.device.name] = place.seconds }
    let figures = known.map { "\($0.figure) on \($0.device.name)" }.joined(separator: ", ")
    lines = [
      known.isEmpty
        ? "no device was measured yet; --device auto does, and langevin devices --measure"
        : "a small step takes \(figures) (langevin devices --measure measures anew)"
    ]
  }
}
