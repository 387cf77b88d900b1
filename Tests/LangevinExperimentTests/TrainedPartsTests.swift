import Langevin
import Testing

@testable import LangevinExperiment

/// What the trained page is made of. Its numbers are held by `langevin experiment --trained --quick`, which fails where one is
/// off: `.ci/run` runs it by itself, since minutes of training would disturb the tests that measure.
@Suite struct TrainedPartsTests {
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
