import Foundation

/// A statement about diffusion and the number that was measured for it.
///
/// The bounds are those within which the quick experiment's numbers, the noisier ones, stay: the mean over seeds 0 to 7
/// and five of their deviations to each side, rounded outward, unless the claim would hold for its opposite then.
public struct Claim: Sendable, Codable {
  /// What is measured, short and the same in every run.
  public var name: String
  /// What the number is.
  public var statement: String
  /// The number that was measured.
  public var value: Double
  /// The least that agrees with the claim.
  public var atLeast: Double
  /// The most that agrees with the claim.
  public var atMost: Double
  /// Whether the number lies within.
  public var holds: Bool

  init(_ name: String, _ statement: String, _ value: Double, in range: ClosedRange<Double>) {
    self.name = name
    self.statement = statement
    self.value = value
    (atLeast, atMost) = (range.lowerBound, range.upperBound)
    holds = range.contains(value)
  }
}

/// A line of a chart.
public struct Series: Sendable, Codable {
  /// As in the chart's legend.
  public var name: String
  /// Along the horizontal axis.
  public var x: [Double]
  /// Along the vertical axis.
  public var y: [Double]
}

/// What one part of the experiment found.
public struct ExperimentSection: Sendable, Codable {
  /// What the part is about.
  public var title: String
  /// What was done and what is to be seen.
  public var text: String
  /// The section's claims with their numbers.
  public var claims: [Claim]
  /// What the charts show.
  public var series: [Series]
  /// The figure as SVG text.
  public var figure = ""

  private enum CodingKeys: CodingKey { case title, text, claims, series }

  init(title: String, text: String, claims: [Claim], series: [Series] = [], figure: String) {
    (self.title, self.text, self.claims, self.series, self.figure) = (title, text, claims, series, figure)
  }
}

/// What the experiment found: `results.json`, and the page.
public struct ExperimentReport: Sendable, Codable {
  /// The seed of all noise.
  public var seed: UInt64
  /// The device that computed, by name.
  public var device: String
  /// Data points of each spiral.
  public var points: Int
  /// Samples in each picture.
  public var samples: Int
  /// How long it took.
  public var seconds: Double
  /// In the order of the page.
  public var sections: [ExperimentSection]
  /// Whether the networks were trained, rather than known in closed form.
  public var isTrained = false

  /// The claims of all sections.
  public var claims: [Claim] { sections.flatMap(\.claims) }
}
