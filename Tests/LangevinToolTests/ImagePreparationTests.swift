import Foundation
import LangevinCPU
import LangevinJSON
import LangevinMeasurement
import LangevinTensor
import LangevinTestSupport
import Testing

@testable import Langevin

/// Goldens by Pillow and transformers: see Tests/Golden/make_image_preparation.py.
struct ImagePreparationTests {
  private static let folder = Fixtures.url.appending(path: "pictures")

  private static func golden(_ name: String) throws -> [StrictJSON] {
    let data = try Data(contentsOf: folder.appendingPathComponent(name))
    guard case .array(let cases) = try StrictJSON(parsing: [UInt8](data)) else { return [] }
    return cases
  }

  private func pair(_ json: StrictJSON?) throws -> (Int, Int) {
    guard case .array(let items)? = json, items.count >= 2 else { throw CocoaError(.coderInvalidValue) }
    return (try #require(items[0].count), try #require(items[1].count))
  }

  /// Noise, hard edges or gradients, as the script makes them.
  private func picture(_ item: StrictJSON) throws -> Picture {
    let seed = try #require(item["seed"]?.count)
    let (width, height) = try pair(item["from"])
    var state = UInt32(seed)
    var pixels: [UInt8] = []
    for y in 0..<height {
      for x in 0..<width {
        for c in 0..<3 {
          state = state &* 1_664_525 &+ 1_013_904_223
          let noise = Int(state >> 24)
          switch seed % 3 {
          case 0: pixels.append(UInt8(noise))
          case 1: pixels.append((x / 3 + y / 5 + c + seed) % 2 != 0 ? 255 : UInt8(noise / 64))
          default: pixels.append(UInt8((x * 5 + y * 3 + c * 60 + noise / 32) % 256))
          }
        }
      }
    }
    return try Picture(width: width, height: height, pixels: pixels)
  }

  @Test(arguments: ResizeFilter.allCases)
  func resizingIsBitEqualToPillow(filter: ResizeFilter) throws {
    let cases = try Self.golden("resize_random.json")
    #expect(cases.count == 50)
    for item in cases {
      let (width, height) = try pair(item["to"])
      let resized = try picture(item).resized(width: width, height: height, filter: filter)
      #expect(SHA256.hex(resized.pixels) == item[filter.rawValue]?.string, "\(item.text)")
    }
  }

  @Test func preparationIsBitEqualToTransformers() throws {
    let device = Device(CPUBackend())
    let cases = try Self.golden("prepare.json")
    #expect(cases.count == 24)
    for item in cases {
      let preparation = try ImagePreparation(#require(item["config"]), path: "config")
      let tensor = try preparation([picture(item)], on: device)
      let (height, width) = try pair(item["shape"])
      #expect(tensor.shape == [1, height, width, 3], "\(item.text)")
      let (digest, first) = (try tensor.withBytes { SHA256.hex(Array($0)) }, try tensor.floats().prefix(3))
      #expect(digest == item["sha256"]?.string, "\(item.text) begins \(first)")
    }
  }

  @Test func batchesAreOfOneSize() throws {
    let device = Device(CPUBackend())
    var preparation = ImagePreparation()
    (preparation.size, preparation.crop) = (.shortestEdge(8), [8, 8])
    let pictures = try [(9, 16), (30, 10), (8, 8)].map {
      try Picture(width: $0.0, height: $0.1, pixels: [UInt8](repeating: 100, count: $0.0 * $0.1 * 3))
    }
    let batch = try preparation(pictures, on: device)
    #expect(batch.shape == [3, 8, 8, 3])
    #expect(try batch.rows(1..<2).floats() == preparation([pictures[1]], on: device).floats())
    preparation.crop = nil
    #expect(throws: ImageError.self) { try preparation(pictures, on: device) }
    #expect(throws: ImageError.self) { try preparation([], on: device) }
    preparation.size = .shortestEdge(1 << 14)
    let line = try Picture(width: 1, height: 30, pixels: [UInt8](repeating: 0, count: 90))
    #expect(throws: ImageError.self) { try preparation([line], on: device) }
  }

  @Test(arguments: [
    (#"{"resample": 0}"#, "nearest"), (#"{"resample": 5}"#, "hamming"), (#"{"resample": 9}"#, "0 to 5"),
    (#"{"image_processor_type": "SiglipImageProcessor"}"#, "SiglipImageProcessor"),
    (#"{"feature_extractor_type": "ViTFeatureExtractor"}"#, "ViTFeatureExtractor"),
    (#"{"size": {"longest_edge": 224}}"#, "longest_edge"), (#"{"size": 0}"#, "size"),
    (#"{"size": 2.5}"#, "size"),
    (#"{"crop_size": {"height": 224}}"#, "crop_size"), (#"{"do_pad": true}"#, "do_pad"),
    (#"{"do_resize": 1}"#, "do_resize"), (#"{"image_std": [1, 0, 1]}"#, "image_std"),
    (#"{"image_mean": [1, 2]}"#, "image_mean"), (#"{"image_mean": "x"}"#, "image_mean"),
    (#"{"image_std": [1, 1e-300, 1]}"#, "image_std"), (#"{"image_mean": [0, 1e300, 0]}"#, "image_mean"),
    (#"{"rescale_factor": "x"}"#, "rescale_factor"), (#"{"rescale_factor": 1e300}"#, "rescale_factor"),
    ("[]", "object"),
  ])
  func badConfigurationsAreNamed(json: String, words: String) throws {
    let error = #expect(throws: CheckpointError.self) {
      try ImagePreparation(StrictJSON(parsing: Array(json.utf8)), path: "the/path.json")
    }
    let text = try #require(error).description
    #expect(text.contains(words) && text.hasPrefix("the/path.json: "), "\(text)")
  }

  @Test func nullAndUnknownKeysMeanNothing() throws {
    let json = #"{"size": null, "new_key": [1], "do_rescale": null, "image_mean": null, "resample": 3}"#
    #expect(try ImagePreparation(StrictJSON(parsing: Array(json.utf8)), path: "") == ImagePreparation())
  }
}
