import Langevin
import Testing

@testable import LangevinExperiment

/// The numbers of the trained page. Their bounds stand beside the claims in Sources/LangevinExperiment/Trained.
@Suite struct TrainedClaimTests {
  /// On the CPU backend alone: it takes a minute or two, and that training is the same on every device is tested by
  /// golden loss curves.
  @Test func everyClaimHolds() throws {
    let report = try TrainedExperiment(on: devices[0], quick: true).run()
    #expect(report.sections.count == 6 && report.claims.count >= 14)
    for figure in report.sections.map(\.figure) {
      // Apart from the pictures, whose text may say anything.
      let drawing = figure.replacing(/base64,[^"]*/, with: "")
      #expect(figure.hasPrefix("<svg") && !drawing.contains("nan"))
    }
    for claim in report.claims {
      #expect(claim.holds, "\(claim.name) is \(claim.value), not within \(claim.atLeast)...\(claim.atMost)")
    }
    #expect(report.html.contains("pictures of 16x16 pixels"))
  }

  @Test func stopsWhereProgressThrows() throws {
    struct Stop: Error {}
    var experiment = try TrainedExperiment(on: devices[0], quick: true)
    experiment.progress = { if $0.isEmpty { throw Stop() } }
    #expect(throws: Stop.self) { try experiment.run() }
  }

  @Test func picturesAreWhatTheirCaptionsSay() {
    let pictures = ShapePictures(seed: 3)
    #expect(ShapePictures.kinds.count == 24 && ShapePictures.shown.count == 22)
    // Every caption is its own, of one length, and ends.
    #expect(Set(ShapePictures.kinds.map(\.tokens)).count == 24)
    #expect(
      ShapePictures.kinds.allSatisfy { $0.tokens.count == 5 && $0.tokens.last == ShapePictures.endToken })
    for kind in ShapePictures.kinds {
      let values = pictures.pixels(kind, 1)
      #expect(values.count == 768 && values.allSatisfy { (-1...1).contains($0) })
      // White in the corners, its colour in the middle, and darkness where there is a hat.
      #expect(values[0] == 1 && values[767] == 1)
      let middle = (10 * 16 + 8) * 3
      let color = ShapePictures.colors[kind.color].rgb * 2 - 1
      for channel in 0..<3 { #expect(abs(values[middle + channel] - color[channel]) < 0.02) }
      let hasDarkness = stride(from: 0, to: 768, by: 3).contains { place in
        (0..<3).allSatisfy { values[place + $0] < -0.4 }
      }
      #expect(hasDarkness == kind.hasHat)
    }
  }
}
