import Foundation
import LangevinTensor
import Testing

@testable import Langevin

/// What unCLIP's pipelines compute beside their networks.
@Suite struct UnCLIPArithmeticTests {
  @Test func sphericalInterpolations() {
    let (a, b): ([Float], [Float]) = ([2, 0, 0], [0, 4, 0])
    #expect(sphericalInterpolation(a, b, at: 0) == a)
    #expect(relativeError(sphericalInterpolation(a, b, at: 1), b) < 1e-6)
    let middle = sphericalInterpolation(a, b, at: 0.5)
    #expect(relativeError(middle, [2 * 0.5.squareRoot(), 4 * 0.5.squareRoot(), 0].map { Float($0) }) < 1e-6)
    // Of unit vectors every point of the way is one.
    let third = sphericalInterpolation([1, 0], [0.6, 0.8], at: 1 / 3)
    #expect(abs(third[0] * third[0] + third[1] * third[1] - 1) < 1e-6)
    #expect(relativeError(sphericalInterpolation(a, a, at: 0.3), a) < 1e-6)
    #expect(sphericalInterpolation(a, a.map { -$0 }, at: 0.5).allSatisfy { abs($0) < 1e-6 })
  }

  /// The reference's super-resolution is given small pictures as torch's interpolate enlarges them.
  @Test(arguments: devices) func enlarging(device: Device) throws {
    let io = try SafetensorsFile(
      url: Fixture.root.appending(path: "unclip-pipelines").appending(path: "io.safetensors"))
    for name in ["text", "variation"] {
      let small = try io.load("\(name).small", on: device).transposed([0, 2, 3, 1])
      let enlarged = try small.resizedBicubic(height: 16, width: 16).transposed([0, 3, 1, 2])
      let error = relativeError(try enlarged.floats(), try io.load("\(name).enlarged", on: device).floats())
      #expect(error < 1e-5, "\(name) differs by \(error)")
    }
  }
}
