import Foundation
import Langevin
import LangevinJSON
import LangevinNN
import LangevinTensor
import LangevinTestSupport
import Testing

@testable import LangevinModels

/// One folder of Tests/Golden/Fixtures, made by Tests/Golden/make_models.py.
struct Fixture {
  let config: ConfigObject
  let io: SafetensorsFile
  let source: SafetensorsFile

  static let root = Fixtures.url

  init(_ name: String) throws {
    let folder = Fixture.root.appending(path: name)
    config = try ConfigObject(json: Data(contentsOf: folder.appending(path: "config.json")))
    source = try SafetensorsFile(url: folder.appending(path: "weights.safetensors"))
    io = try SafetensorsFile(url: folder.appending(path: "io.safetensors"))
  }

  func weights(on device: Device, as dtype: DType) -> Weights { Weights(source, on: device, as: dtype) }

  func int(_ key: String) throws -> Int { try #require(try config.optionalInt(key)) }
}

extension ConfigObject {
  init(json: Data) throws { try self.init(StrictJSON(parsing: [UInt8](json), nonFinite: true)) }
}

/// A fixture's tensors on one device in one dtype.
struct Inputs {
  let io: SafetensorsFile
  let device: Device
  let dtype: DType

  init(_ fixture: Fixture, on device: Device, as dtype: DType) {
    (io, self.device, self.dtype) = (fixture.io, device, dtype)
  }

  /// As stored: [N, T, C], [N, C].
  func callAsFunction(_ name: String) throws -> Tensor { try io.load(name, on: device).cast(to: dtype) }

  /// PyTorch's [N, C, H, W] -> [N, H, W, C].
  func picture(_ name: String) throws -> Tensor { try self(name).transposed([0, 2, 3, 1]) }

  /// PyTorch's [N, C, F, H, W] -> [N, F, H, W, C].
  func video(_ name: String) throws -> Tensor { try self(name).transposed([0, 2, 3, 4, 1]) }

  func floats(_ name: String) throws -> [Float] { try io.load(name, on: device).floats() }

  /// Float32 sums in another order than PyTorch's lose about 1e-6; float16 storage rounds every activation to
  /// 5e-4 of itself, and a whole network passes through tens of them.
  var tolerance: Float { dtype == .float32 ? 1e-4 : 2e-2 }

  func expect(_ result: Tensor, is name: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let expected = try io.load(name, on: device)
    let got =
      switch expected.shape.rank {
      case 4: try result.transposed([0, 3, 1, 2])
      case 5: try result.transposed([0, 4, 1, 2, 3])
      default: result
      }
    #expect(got.shape == expected.shape, sourceLocation: sourceLocation)
    #expect(result.dtype == dtype, sourceLocation: sourceLocation)
    let error = relativeError(try got.floats(), try expected.floats())
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      print(
        "\(device.name) \(dtype) \(io.url.deletingLastPathComponent().lastPathComponent) \(name): \(error)")
    }
    #expect(
      error < tolerance, "\(name) differs by \(error) on \(device.name)", sourceLocation: sourceLocation)
  }
}

/// `max |a - b| / max |b|`; infinite where a number of `a` is not finite.
func relativeError(_ a: [Float], _ b: [Float]) -> Float {
  guard a.count == b.count, a.allSatisfy(\.isFinite) else { return .infinity }
  let scale = b.reduce(0) { max($0, abs($1)) }
  return zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } / scale
}

/// A device and a storage dtype.
struct Setting: Sendable, CustomTestStringConvertible {
  let device: Device
  let dtype: DType

  var testDescription: String { "\(device.name), \(dtype.rawValue)" }

  static let all = devices.flatMap { device in
    [DType.float32, .float16].map { Setting(device: device, dtype: $0) }
  }
  static let float32 = all.filter { $0.dtype == .float32 }
}
