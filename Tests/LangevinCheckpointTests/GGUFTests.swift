import Foundation
import LangevinCPU
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin

private let folder = fixtures.appendingPathComponent("gguf")
private let cpu = Device(CPUBackend())

/// A GGUF file, piece by piece.
private struct Pieces {
  var bytes = Array("GGUF".utf8)
  mutating func put<T: FixedWidthInteger>(_ number: T) {
    withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
  }
  mutating func put(_ text: String) {
    put(UInt64(text.utf8.count))
    bytes += Array(text.utf8)
  }

  init(version: UInt32 = 3, tensors: UInt64, pairs: UInt64 = 0) {
    put(version)
    put(tensors)
    put(pairs)
  }

  mutating func tensor(_ name: String, _ extents: [UInt64], type: UInt32 = 0, offset: UInt64 = 0) {
    put(name)
    put(UInt32(extents.count))
    for extent in extents { put(extent) }
    put(type)
    put(offset)
  }

  mutating func number(_ key: String, _ value: UInt32) {
    put(key)
    put(UInt32(4))
    put(value)
  }

  /// With the tensors' bytes behind.
  func whole(_ data: Int, alignment: Int = 32) -> [UInt8] {
    let end = (bytes.count + alignment - 1) / alignment * alignment
    return bytes + [UInt8](repeating: 0, count: end - bytes.count + data)
  }
}

private struct BadFile: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let bytes: [UInt8]
  let reason: String

  init(
    _ name: String, version: UInt32 = 3, tensors: UInt64 = 1, pairs: UInt64 = 0, data: Int = 64,
    _ reason: String, _ build: (inout Pieces) -> Void
  ) {
    var pieces = Pieces(version: version, tensors: tensors, pairs: pairs)
    build(&pieces)
    (testDescription, bytes, self.reason) = (name, pieces.whole(data), reason)
  }
}

private let badFiles: [BadFile] = [
  BadFile("version 1", version: 1, tensors: 0, "GGUF version 1") { _ in },
  BadFile("big-endian", version: 3 << 24, tensors: 0, "GGUF version 50331648") { _ in },
  BadFile("a count without tensors", tensors: 1 << 60, "counts 1152921504606846976 tensors") { _ in },
  BadFile("a count without metadata", tensors: 0, pairs: .max, "metadata, for which it is too short") { _ in
  },
  BadFile("a name without end", "bytes of a text") { $0.put(UInt64.max) },
  BadFile("a list without end", tensors: 0, pairs: 1, "numbers in 'k'") {
    $0.put("k")
    $0.put(UInt32(9))
    $0.put(UInt32(10))
    $0.put(UInt64(1) << 62)
  },
  BadFile("a list of lists", tensors: 0, pairs: 1, "none of a list") {
    $0.put("k")
    $0.put(UInt32(9))
    $0.put(UInt32(9))
    $0.put(UInt64(1))
  },
  BadFile("metadata of an unknown type", tensors: 0, pairs: 1, "unknown type 13") {
    $0.put("k")
    $0.put(UInt32(13))
  },
  BadFile("a key twice", tensors: 0, pairs: 2, "the key 'k' appears twice") {
    $0.number("k", 1)
    $0.number("k", 1)
  },
  BadFile("a name twice", tensors: 2, "the key 'a' appears twice") {
    $0.tensor("a", [2])
    $0.tensor("a", [2], offset: 32)
  },
  BadFile("six axes", "6 axes") { $0.tensor("a", [1, 1, 1, 1, 1, 1]) },
  BadFile("an absurd extent", "an extent of 18446744073709551615") { $0.tensor("a", [.max]) },
  BadFile("absurd extents", "no possible one") { $0.tensor("a", [1 << 40, 1 << 40]) },
  BadFile("a row of half a block", "no whole blocks of Q8_0") { $0.tensor("a", [48, 2], type: 8) },
  BadFile("a type that is not read", "tensor 'a' of type Q5_K is not supported (supported: F32, F16, Q4_0") {
    $0.tensor("a", [256], type: 13)
  },
  BadFile("no type", "of type 77, which ggml does not have") { $0.tensor("a", [2], type: 77) },
  BadFile("data off the alignment", "no multiple of 32") { $0.tensor("a", [2], offset: 8) },
  BadFile("data behind the end", "truncated") { $0.tensor("a", [17]) },
  BadFile("data far behind the end", "truncated") { $0.tensor("a", [1], offset: .max - 31) },
  BadFile("data that overlap", tensors: 2, "the data of 'a' and 'b' overlap") {
    $0.tensor("a", [9])
    $0.tensor("b", [2], offset: 32)
  },
  BadFile("an alignment of 0", tensors: 0, pairs: 1, "no power of two") { $0.number("general.alignment", 0) },
  BadFile("an alignment of 24", tensors: 0, pairs: 1, "no power of two") {
    $0.number("general.alignment", 24)
  },
  BadFile("a shape of other numbers", pairs: 1, "no shape of its 8 numbers") {
    $0.put("comfy.gguf.orig_shape.a")
    $0.put(UInt32(9))
    $0.put(UInt32(4))
    $0.put(UInt64(2))
    $0.put(UInt32(3))
    $0.put(UInt32(3))
    $0.tensor("a", [8])
  },
]

@Suite struct GGUFTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  @Test(arguments: badFiles) private func refuses(_ bad: BadFile) throws {
    let url = try temporary.write(bad.bytes, "bad.gguf")
    let error = #expect(throws: CheckpointError.self) { try GGUFFile(url: url) }
    let text = error?.description ?? ""
    #expect(text.contains(url.path) && text.contains(bad.reason) && !text.contains("\n"), "\(text)")
  }

  /// As ComfyUI-GGUF writes the convolution over time of a video's model.
  @Test func fiveAxesAreRead() throws {
    var pieces = Pieces(tensors: 1)
    pieces.tensor("a", [2, 1, 3, 1, 2])
    let file = try GGUFFile(url: temporary.write(pieces.whole(48), "five.gguf"))
    #expect(file.shape(of: "a") == [2, 1, 3, 1, 2])
    #expect(try file.load("a", on: cpu).floats() == [Float](repeating: 0, count: 12))
  }

  @Test func everyPrefixIsRefused() throws {
    let whole = [UInt8](try Data(contentsOf: folder.appendingPathComponent("two.gguf")))
    let last = try GGUFHeader(whole).entries.map(\.range.upperBound).max() ?? 0
    for count in Array(stride(from: 0, to: 2000, by: 1)) + Array(stride(from: 2000, to: last, by: 97)) {
      #expect(throws: CheckpointError.self, "\(count) bytes") { try GGUFHeader(Array(whole.prefix(count))) }
    }
    _ = try GGUFHeader(Array(whole.prefix(last)))
  }

  /// Whatever the bytes, the answer is a header whose tensors lie in the file, or a CheckpointError.
  @Test func mutations() throws {
    let whole = [UInt8](try Data(contentsOf: folder.appendingPathComponent("two.gguf")))
    let end = try GGUFHeader(whole).entries.map(\.range.lowerBound).min() ?? 0
    var generator = SeededGenerator(state: 3)
    var accepted = 0
    for _ in 0..<4000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...2, using: &generator) {
        let place = Int.random(in: 0..<end, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes[place] = .random(in: 0...255, using: &generator)
        case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 2: bytes.remove(at: place)
        default: bytes.insert(.random(in: 0...255, using: &generator), at: place)
        }
      }
      do {
        let header = try GGUFHeader(bytes)
        accepted += 1
        #expect(header.entries.allSatisfy { $0.range.upperBound <= bytes.count && $0.range.lowerBound > 0 })
      } catch { #expect(error is CheckpointError) }
    }
    #expect(accepted > 100 && accepted < 3900, "\(accepted) accepted")
  }

  @Test(arguments: ["two.gguf", "two-v2.gguf"]) func numbersAreThoseOfGguf(_ name: String) throws {
    let file = try GGUFFile(url: folder.appendingPathComponent(name))
    let golden = try SafetensorsFile(url: folder.appendingPathComponent("two.safetensors"))
    #expect(Set(file.names) == Set(golden.names) && file.names.count == 9)
    for name in file.names {
      #expect(file.shape(of: name) == golden.shape(of: name))
      #expect(try file.load(name, on: cpu).floats() == golden.load(name, on: cpu).floats(), "\(name)")
    }
    let encodings = file.names.compactMap { file.encoding(of: $0) }
    #expect(Set(encodings) == Set(BlockEncoding.allCases) && encodings.count == 6)
    #expect(file.spec(of: "bf16")?.dtype == .bfloat16 && file.spec(of: "Q4_0.weight")?.dtype == .float32)
  }

  @Test func weightsStayInBlocks() throws {
    let file = try GGUFFile(url: folder.appendingPathComponent("two.gguf"))
    let golden = try SafetensorsFile(url: folder.appendingPathComponent("two.safetensors"))
    let (weights, plain) = (Weights(file, on: cpu), Weights(golden, on: cpu))
    let linear = try weights["Q8_0"].linear(inputs: 64, outputs: 3)
    #expect(linear.encoding == .blocks(.q8))
    let kernel = Extent2D(height: 3, width: 3)
    let flat = try weights["flat"].convolution(inputs: 8, outputs: 32, kernel: kernel)
    #expect(flat.encoding == .blocks(.q8))
    let x = try Tensor.normal([1, 5, 6, 8], seed: 4, on: cpu)
    let dense = try plain["flat"].convolution(inputs: 8, outputs: 32, kernel: kernel)
    let y = try x.conv2d(flat, kernel: kernel, padding: Padding2D(1)).floats()
    let z = try x.conv2d(dense, kernel: kernel, padding: Padding2D(1)).floats()
    #expect(zip(y, z).allSatisfy { abs($0 - $1) < 1e-4 } && y.contains { abs($0) > 1 })
    #expect(try flat.checkpointTensor().floats() == golden.load("flat.weight", on: cpu).floats())
    #expect(throws: WeightError.self) { try weights["Q8_0"].linear(inputs: 32, outputs: 6) }
    // What was loaded is given back as it was, and the network can be built of it again.
    #expect(try weights.parameters.tensor("flat.weight").shape == [32, 8, 3, 3])
  }

  @Test func partsAreWholeBlocks() throws {
    let file = try GGUFFile(url: folder.appendingPathComponent("two.gguf"))
    let all = try file.load("Q5_0.weight", on: cpu).floats()
    let words = try file.loadBlocks("Q5_0.weight", rows: 1..<2, on: cpu)
    #expect(try words.dequantized(.q5).floats() == Array(all[64..<128]))
    #expect(throws: WeightError.self) { try file.loadBlocks("bias", on: cpu) }
    #expect(throws: CheckpointError.self) { try file.loadBlocks("none", on: cpu) }
  }

  @Test func aFileThatIsNoCheckpointIsNamed() throws {
    let url = folder.appendingPathComponent("two.gguf")
    let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(url) }
    #expect(error?.description.contains("is not supported") == true)
  }
}

extension GGUFHeader {
  fileprivate init(_ bytes: [UInt8]) throws {
    self = try bytes.withUnsafeBytes { try GGUFHeader(parsing: $0, path: "f") }
  }
}
