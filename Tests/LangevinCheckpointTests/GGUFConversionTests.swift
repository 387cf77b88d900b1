import Foundation
import LangevinCPU
import LangevinTensor
import Testing

@testable import Langevin

private let cpu = Device(CPUBackend())
private let tinySD = fixtures.appendingPathComponent("tiny-sd.safetensors")

@Suite struct GGUFConversionTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  private func converted(_ encoding: BlockEncoding, convolutions: Bool = false) throws -> (
    file: GGUFFile, summary: GGUFConversion.Summary
  ) {
    let url = temporary.url.appendingPathComponent("out.gguf")
    let summary = try GGUFConversion(tinySD, encoding: encoding, convolutions: convolutions).write(to: url)
    return (try GGUFFile(url: url), summary)
  }

  @Test(arguments: BlockEncoding.allCases) func onlyMatricesChange(_ encoding: BlockEncoding) throws {
    let (file, summary) = try converted(encoding)
    let source = try SafetensorsFile(url: tinySD)
    #expect(file.names == source.names && summary.tensors == file.names.count)
    let inBlocks = file.names.filter { file.encoding(of: $0) != nil }
    #expect(inBlocks.count == summary.inBlocks && inBlocks.count > 20)
    #expect(summary.bytesAfter < summary.bytesBefore)
    for name in file.names {
      #expect(file.shape(of: name) == source.shape(of: name))
      guard let stored = file.encoding(of: name) else {
        #expect(
          try file.withBytes(of: name) { [UInt8]($0) } == source.withBytes(of: name) { [UInt8]($0) })
        continue
      }
      #expect(name.hasSuffix("weight") && file.shape(of: name)?.rank == 2)
      #expect(!name.hasPrefix("first_stage_model.") && !name.contains("embed"))
      // A row that is no block of 256 is in q8_0.
      let width = file.shape(of: name)?[-1] ?? 0
      #expect(stored == (width % encoding.elementCount == 0 ? encoding : .q8))
      let expected = stored.encoded(try source.load(name, on: cpu).floats())
      #expect(try file.withBytes(of: name) { [UInt8]($0) } == expected)
    }
  }

  @Test func convolutionsGoInRowsOf256() throws {
    let (file, _) = try converted(.q4K, convolutions: true)
    let flat = file.names.filter { file.shape(of: $0)?.rank == 4 && file.encoding(of: $0) == .q4K }
    #expect(flat.count > 10)
    let source = try SafetensorsFile(url: tinySD)
    for name in flat {
      let (got, expected) = (
        try file.load(name, on: cpu).floats(), try source.load(name, on: cpu).floats()
      )
      let largest = expected.map(abs).max() ?? 0
      #expect(zip(got, expected).allSatisfy { abs($0 - $1) < 0.2 * largest })
    }
    // What is in blocks already stays bit by bit.
    let again = temporary.url.appendingPathComponent("again.gguf")
    _ = try GGUFConversion(file.url, encoding: .q8).write(to: again)
    #expect(try Data(contentsOf: again).count > 1000)
    let second = try GGUFFile(url: again)
    for name in flat {
      #expect(second.encoding(of: name) == .q4K && second.shape(of: name) == file.shape(of: name))
      #expect(try second.withBytes(of: name) { [UInt8]($0) } == file.withBytes(of: name) { [UInt8]($0) })
    }
  }

  /// The parts are those of the file that it was made from.
  @Test func isACheckpoint() throws {
    let (file, _) = try converted(.q8)
    // Its first bytes say what it is, whatever its name.
    let renamed = temporary.url.appendingPathComponent("model.safetensors")
    try FileManager.default.moveItem(at: file.url, to: renamed)
    let (checkpoint, original) = (try Checkpoint.open(renamed), try Checkpoint.open(tinySD))
    #expect(checkpoint.pipeline == original.pipeline)
    for name in ["unet", "vae", "text_encoder"] {
      let (part, other) = (try checkpoint.component(name), try original.component(name))
      #expect(part.config == other.config && part.weights.names == other.weights.names)
      #expect((part.weights.names.contains { part.weights.encoding(of: $0) != nil }) == (name != "vae"))
    }
  }

  @Test func whatGgufCannotHoldIsNamed() throws {
    let header = #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#
    let url = try temporary.write(safetensors(header, data: 2), "u8.safetensors")
    let error = #expect(throws: CheckpointError.self) { try GGUFConversion(url, encoding: .q8) }
    #expect(error?.description.contains("tensor 'a' of a type that GGUF does not have") == true)
  }
}
