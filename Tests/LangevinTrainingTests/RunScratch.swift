import Foundation
import LangevinCPU
import LangevinJSON
import LangevinTensor
import LangevinTestSupport

@testable import Langevin

typealias RunScratch = TemporaryFolder

extension TemporaryFolder {
  var folder: URL { url }

  func bytes(_ name: String) throws -> [UInt8] { try RegularFile.contents(path: url(name).path) }

  func write(_ bytes: [UInt8], to name: String) throws { try write(bytes, name) }

  static let fixtures = Fixtures.url
}

/// States of a run of two small parameters.
struct SmallRun {
  let device = Device(CPUBackend())
  var data = "data-1"
  var settings = "settings-1"
  var width = 3
  var name = "unet/conv_in.weight"

  var fingerprint: RunFingerprint {
    RunFingerprint(
      parameters: [("text/embedding.weight", [5]), (name, Shape([2, width]))], data: data,
      settings: settings)
  }

  func state(_ step: Int) throws -> RunState {
    func tensor(_ shape: Shape) throws -> Tensor {
      try Tensor((0..<shape.count).map { Float($0) * 0.1 + Float(step) }, shape, on: device)
    }
    return RunState(
      step: step, samples: UInt64(step) * 64, seed: .max - 7, lossScale: step % 2 == 0 ? 65536 : nil,
      data: data,
      settings: settings, extra: ["good_steps": "12"],
      tensors: [(name, try tensor([4, 2, width])), ("text/embedding.weight", try tensor([4, 5]))])
  }
}

extension RunState {
  /// Whether everything is the same, tensors bit by bit.
  func equals(_ other: RunState) throws -> Bool {
    func words(_ tensor: Tensor) throws -> [UInt8] { try tensor.withBytes { [UInt8]($0) } }
    guard step == other.step, samples == other.samples, seed == other.seed, lossScale == other.lossScale,
      extra == other.extra, fingerprint == other.fingerprint, tensors.map(\.name) == other.tensors.map(\.name)
    else { return false }
    return try zip(tensors, other.tensors).allSatisfy { a, b in
      try a.tensor.spec == b.tensor.spec && words(a.tensor) == words(b.tensor)
    }
  }
}
