import Foundation
import LangevinTensor
import Testing

@testable import Langevin

/// Held to the Python package gguf, to the bit: Golden/make_blocks.py.
@Suite struct BlockEncodingTests {
  private let golden: SafetensorsFile

  init() throws { golden = try SafetensorsFile(url: fixtures.appendingPathComponent("blocks.safetensors")) }

  private func bytes(_ name: String) throws -> [UInt8] { try golden.withBytes(of: name) { [UInt8]($0) } }

  private func floats(_ name: String) throws -> [Float] {
    try golden.withBytes(of: name) { bytes in
      stride(from: 0, to: bytes.count, by: 4).map { bytes.loadUnaligned(fromByteOffset: $0, as: Float.self) }
    }
  }

  private func decoded(_ blocks: [UInt8], _ encoding: BlockEncoding) -> [Float] {
    let count = blocks.count / encoding.byteCount * encoding.elementCount
    return [Float](unsafeUninitializedCapacity: count) { out, initialized in
      blocks.withUnsafeBytes { encoding.decode($0, into: out) }
      initialized = count
    }
  }

  private func encoded(_ values: [Float], _ encoding: BlockEncoding) -> [UInt8] {
    let count = encoding.byteCount(values.count)
    return [UInt8](unsafeUninitializedCapacity: count) { out, initialized in
      values.withUnsafeBufferPointer { encoding.encode($0, into: UnsafeMutableRawBufferPointer(out)) }
      initialized = count
    }
  }

  @Test(arguments: BlockEncoding.allCases) func numbersAreThoseOfGguf(_ encoding: BlockEncoding) throws {
    let numbers = decoded(try bytes("\(encoding.rawValue).blocks"), encoding)
    let expected = try floats("\(encoding.rawValue).numbers")
    #expect(numbers.count == expected.count && numbers.count >= 1280)
    #expect(numbers.map(\.bitPattern) == expected.map(\.bitPattern))
  }

  @Test(arguments: [BlockEncoding.q8, .q5, .q4]) func blocksAreThoseOfGguf(_ encoding: BlockEncoding) throws {
    let blocks = encoded(try floats("\(encoding.rawValue).from"), encoding)
    let expected = try bytes("\(encoding.rawValue).to")
    let wrong = (0..<40).filter { block in
      let range = block * encoding.byteCount..<(block + 1) * encoding.byteCount
      return blocks[range] != expected[range]
    }
    #expect(wrong.isEmpty, "blocks \(wrong)")
  }

  /// The bound that `encode` states, with the scales' rounding to float16.
  @Test(arguments: BlockEncoding.allCases) func numbersComeBackWithinTheStatedBound(_ encoding: BlockEncoding)
    throws
  {
    var generator = SeededGenerator(state: 5)
    for trial in 0..<40 {
      let values = (0..<256).map { i -> Float in
        let spread = exp2(Float(i / 32 % 4) - 2)
        let normal = (0..<6).map { _ in Float.random(in: -1...1, using: &generator) }.reduce(0, +)
        return trial % 3 == 0 ? abs(normal) * spread : normal * spread + Float(trial % 2) * 0.4
      }
      let back = decoded(encoded(values, encoding), encoding)
      for i in values.indices {
        let bound = bound(encoding, values, i)
        #expect(abs(back[i] - values[i]) <= bound, "\(encoding) number \(i): \(values[i]) gives \(back[i])")
      }
    }
  }

  private func bound(_ encoding: BlockEncoding, _ values: [Float], _ i: Int) -> Float {
    func part(_ size: Int) -> ArraySlice<Float> { values[i / size * size..<(i / size + 1) * size] }
    func largest(_ size: Int) -> Float { part(size).map(abs).max() ?? 0 }
    func range(_ numbers: ArraySlice<Float>) -> Float {
      max(numbers.max() ?? 0, 0) - min(numbers.min() ?? 0, 0)
    }
    let exact: Float =
      switch encoding {
      case .q8: largest(32) / 254
      case .q5: largest(32) / 16
      case .q4: largest(32) / 8
      case .q6K: largest(16) / 32 + largest(256) / 127
      case .q4K:
        range(part(32)) / 30
          + (stride(from: 0, to: 256, by: 32).map { range(values[$0..<$0 + 32]) }.max() ?? 0) / 63
          + abs(min(values.min() ?? 0, 0)) / 63
      }
    return exact + largest(encoding.elementCount) * 0x1p-10
  }

  /// What is in blocks already loses nothing, but for the K types, whose scales have scales.
  @Test(arguments: [BlockEncoding.q8, .q5, .q4]) func numbersOfBlocksGiveTheSameBlocksAgain(
    _ encoding: BlockEncoding
  ) throws {
    let blocks = try bytes("\(encoding.rawValue).to")
    let numbers = decoded(blocks, encoding)
    let finite = (0..<40).filter { block in
      numbers[block * 32..<(block + 1) * 32].allSatisfy { $0.isFinite && abs($0) < 1e5 }
    }
    #expect(finite.count > 30)
    for block in finite {
      let part = Array(numbers[block * 32..<(block + 1) * 32])
      #expect(decoded(encoded(part, encoding), encoding) == part)
    }
  }

  @Test func sizesAreThoseOfGgml() {
    let sizes = BlockEncoding.allCases.map { [$0.elementCount, $0.byteCount] }
    #expect(sizes == [[32, 34], [32, 22], [32, 18], [256, 144], [256, 210]])
    for encoding in BlockEncoding.allCases {
      for blocks in 0..<9 {
        let spec = encoding.spec(blocks * encoding.elementCount)
        #expect(encoding.count(spec) == blocks * encoding.elementCount)
        #expect(spec.byteCount - blocks * encoding.byteCount < 4)
      }
      #expect(encoding.count(TensorSpec([1], .int32)) == nil)
      #expect(encoding.count(TensorSpec([1000], .float32)) == nil)
    }
  }
}
