import Foundation
import LangevinTensor
import Testing

@testable import LangevinExperiment

/// The numbers of the page. Their bounds stand beside the claims in Sources/LangevinExperiment.
@Suite struct ClaimTests {
  /// On every device, which give the same numbers: rounding differs by 1e-7, and may once in a while send one of the
  /// samples to another data point, which moves a share by 1 / 256.
  @Test(arguments: [0, 1] as [UInt64]) func everyClaimHolds(seed: UInt64) throws {
    var first: [Claim] = []
    for device in devices {
      let report = try Experiment(on: device, seed: seed, quick: true).run()
      #expect(report.sections.count == 6 && report.claims.count > 20)
      #expect(report.sections.allSatisfy { $0.figure.hasPrefix("<svg") && !$0.figure.contains("nan") })
      for claim in report.claims {
        #expect(
          claim.holds, "\(claim.name) is \(claim.value), not within \(claim.atLeast)...\(claim.atMost)")
      }
      if first.isEmpty { first = report.claims }
      for (a, b) in zip(first, report.claims) {
        #expect(
          a.name == b.name && abs(a.value - b.value) < 0.02 * max(1, abs(a.value)),
          "\(a.name): \(a.value), on \(device.name) \(b.value)")
      }
      #expect(device.fallbacks.operations == 0)
    }
  }

  @Test func aSeedRepeatsAndAnotherDiffers() throws {
    func values(_ seed: UInt64) throws -> [Double] {
      try Experiment(on: devices[0], seed: seed, quick: true).negative().claims.map(\.value)
    }
    let first = try values(3)
    #expect(try values(3) == first)
    #expect(try values(4) != first)
  }

  @Test func stopsWhereProgressThrows() throws {
    struct Stop: Error {}
    var experiment = try Experiment(on: devices[0], quick: true)
    experiment.progress = { if $0 == "few steps" { throw Stop() } }
    #expect(throws: Stop.self) { try experiment.run() }
  }
}

/// The page and its drawings.
@Suite struct PageTests {
  @Test func pageAndFile() throws {
    let claims = [
      Claim("a", "less < more & so on", 0.5, in: 0...1), Claim("b", "fails", 2, in: 0...1),
    ]
    let report = ExperimentReport(
      seed: 5, device: "cpu", points: 3, samples: 4, seconds: 1,
      sections: [
        ExperimentSection(title: "T", text: "text", claims: claims, figure: Drawing(width: 9, height: 8).svg)
      ])
    let page = report.html
    #expect(page.contains("less &lt; more &amp; so on") && page.contains("1 of 2 numbers"))
    #expect(page.contains("<svg") && page.contains("does not hold"))
    let decoded = try JSONDecoder().decode(ExperimentReport.self, from: JSONEncoder().encode(report))
    #expect(decoded.claims.map(\.name) == ["a", "b"] && decoded.claims.map(\.holds) == [true, false])
    #expect(decoded.sections[0].figure.isEmpty)
  }

  @Test func axesPlace() {
    let linear = Axis(range: -1...3, ticks: [])
    #expect(linear.place(-1) == 0 && linear.place(1) == 0.5 && linear.place(3) == 1)
    let logarithmic = Axis(range: 0.01...100, isLogarithmic: true, ticks: [])
    #expect(abs(logarithmic.place(1) - 0.5) < 1e-12 && logarithmic.place(0) == 0)
  }

  /// Only what lies within the axes is drawn, where it belongs.
  @Test func dotsAreWhereTheyBelong() {
    var panel = Panel(
      "", x: 10, y: 20, width: 100, height: 50, horizontal: Axis(range: 0...10, ticks: []),
      vertical: Axis(range: 0...10, ticks: []))
    panel.dots([Vector(x: 0, y: 0), Vector(x: 5, y: 10), Vector(x: 11, y: 5)], .blue)
    #expect(panel.elements.contains { $0.contains("d=\"M10 70h0M60 20h0\"") })
  }
}
