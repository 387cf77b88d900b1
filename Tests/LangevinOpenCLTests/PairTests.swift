import Foundation
import LangevinKernels
import LangevinTensor
import LangevinValidation
import Testing

@testable import LangevinOpenCL

/// Products of bfloat16 in pairs. Where no device has the instruction, all forms are the widened one.
@Suite(.serialized) struct PairTests {
  private static let devices = OpenCLDevices.all().map(\.index)

  private static func options(
    _ operation: LangevinTensor.Operation, _ shapes: Shape..., dtype: DType, on backend: OpenCLBackend
  ) throws -> [String] {
    let inputs = shapes.map { TensorSpec($0, dtype) }
    let call = OperationCall(operation, inputs: inputs, output: try operation.output(of: inputs))
    return try backend.listing(of: call).kernels.filter { $0.source == .panels }.map(\.options)
  }

  @Test(arguments: devices)
  func theListingAndTheKernelsAgree(index: Int) throws {
    let listed = OpenCLDevices.all(probe: true)[index].bfloat16Pairs
    let backend = try OpenCLBackend(index: index, family: .cpu)
    #expect(backend.multipliesPairs == listed)
    #expect(try !OpenCLBackend(index: index, family: .gpu).multipliesPairs)
    let widened = try OpenCLBackend(index: index, family: .cpu, allowPairs: false)
    #expect(!widened.multipliesPairs)
    func isInPairs(
      _ dtype: DType, channels: Int, on backend: OpenCLBackend, kernel: Int? = nil
    ) throws -> Bool {
      let operation: LangevinTensor.Operation =
        if let kernel {
          .conv2d(Conv2D(kernel: Extent2D(height: kernel, width: kernel)))
        } else { .matmul(MatMul()) }
      let all =
        if let kernel {
          try Self.options(
            operation, [1, 24, 24, channels], [kernel * kernel * channels, 64], dtype: dtype, on: backend)
        } else {
          try Self.options(operation, [5, channels], [channels, 64], dtype: dtype, on: backend)
        }
      #expect(all.count == 1)
      return all.contains { !$0.contains("-DPAIRS=0") }
    }
    #expect(try isInPairs(.bfloat16, channels: 6, on: backend) == listed)
    #expect(try isInPairs(.bfloat16, channels: 64, on: backend, kernel: 3) == listed)
    // Pairs must not reach into the next tap, nor beyond a row.
    #expect(try !isInPairs(.bfloat16, channels: 7, on: backend))
    #expect(try !isInPairs(.bfloat16, channels: 3, on: backend, kernel: 2))
    for dtype in [DType.float32, .float16] { #expect(try !isInPairs(dtype, channels: 6, on: backend)) }
    #expect(try !isInPairs(.bfloat16, channels: 6, on: widened))
  }

  /// Both forms against float64.
  @Test(arguments: devices, [true, false])
  func bothFormsAgreeWithFloat64(index: Int, allowPairs: Bool) throws {
    let device = Device(try OpenCLBackend(index: index, family: .cpu, allowPairs: allowPairs))
    let rows = OperationCases.edge.filter {
      [.matmul, .conv2d].contains($0.operation(.bfloat16).kind)
    }
    for row in rows {
      let agreement = try Agreement.check(row, on: device, dtype: .bfloat16, seed: 4)
      #expect(agreement.passes, "\(agreement)")
    }
  }

  /// What lies beside a row must have no part in its sums, not even as 0 times infinity.
  @Test(arguments: devices)
  func neighboursOfARowAreNotMultiplied(index: Int) throws {
    let device = Device(try OpenCLBackend(index: index, family: .cpu))
    for inner in [7, 8] {
      let rows: [Float] = (0..<4 * inner).map { $0 / inner == 1 ? .infinity : 1 }
      let x = try Tensor(rows, [4, inner], on: device).cast(to: .bfloat16)
      let ones = try Tensor.fill(1, [5, inner], on: device).cast(to: .bfloat16)
      let y = try x.matmul(Weight(linear: ones)).floats()
      for (place, value) in y.enumerated() {
        #expect(value == (place / 5 == 1 ? .infinity : Float(inner)))
      }
    }
  }

  /// A driver whose instruction is wrong, or is refused, costs speed alone.
  @Test(arguments: devices, [true, false])
  func whatIsWrongIsNotUsed(index: Int, builds: Bool) throws {
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(
      index: index, family: .cpu, programCache: folder.url, tuningCache: folder.url
    ) { source, text in
      guard source == .pairProbe else { return text }
      return builds ? text.replacing("vload16(i, b)", with: "vload16(i, a)") : "#error no\n" + text
    }
    #expect(!backend.multipliesPairs)
    let device = Device(backend)
    let x = try Tensor([1, 2, 3, 4] as [Float], [2, 2], on: device).cast(to: .bfloat16)
    let weight = try Weight(linear: Tensor([5, 6] as [Float], [1, 2], on: device).cast(to: .bfloat16))
    #expect(try x.matmul(weight).floats() == [17, 39])
    #expect(try weight.unpacked().floats() == [5, 6])
  }

  @Test func aFormThatEndedAProcessIsNotTriedAgain() throws {
    let folder = try TemporaryFolder()
    let device = try #require(OpenCLDevices.all().first)
    func record(_ sources: String = "a") -> DotRecord {
      DotRecord(device, sources: sources, folder: folder.url)
    }
    #expect(record().state(.pairs, .assembly) == .unknown)
    record().begin(.pairs, .assembly)
    // This process is still at it.
    #expect(record().state(.pairs, .assembly) == .unknown)
    let files = try FileManager.default.contentsOfDirectory(at: folder.url, includingPropertiesForKeys: nil)
    let file = try #require(files.first)
    // No process has the highest number that there is.
    try "pairs-assembly \(Int32.max)\n".write(to: file, atomically: true, encoding: .utf8)
    #expect(record().state(.pairs, .assembly) == .fails)
    #expect(record().state(.pairs, .intrinsic) == .unknown)
    record().end(.pairs, .intrinsic, works: true)
    #expect(record().state(.pairs, .assembly) == .fails && record().state(.pairs, .intrinsic) == .works)
    #expect(record("b").state(.pairs, .intrinsic) == .unknown)
    record().end(.pairs, .intrinsic, works: false)
    #expect(record().state(.pairs, .intrinsic) == .fails)
    try "pairs-assembly works too\npairs-intrinsic perhaps\n".write(
      to: file, atomically: true, encoding: .utf8)
    #expect(record().state(.pairs, .assembly) == .unknown && record().state(.pairs, .intrinsic) == .unknown)
    #expect(DotRecord(device, sources: "a", folder: nil).state(.pairs, .assembly) == .unknown)
  }

  /// Of the probe's own numbers: another pairing gives other sums.
  @Test func theProbeTellsPairingsApart() {
    func sums(_ other: (Int) -> Int) -> [Float] {
      (0..<16).map { lane in
        (0..<4).reduce(into: PairProbe.start) { sum, step in
          for i in 0..<2 {
            let at = (step * 16 + lane) * 2 + i
            sum += PairProbe.left[at] * PairProbe.right[other(at)]
          }
        }
      }
    }
    #expect(sums { $0 } == PairProbe.sums)
    for other in [{ $0 ^ 1 }, { $0 ^ 2 }, { $0 ^ 32 }, { $0 & ~1 }] as [(Int) -> Int] {
      #expect(zip(sums(other), PairProbe.sums).allSatisfy { $0 != $1 })
    }
  }

  // MARK: Bytes

  @Test(arguments: devices)
  func productsOfInt8AgreeWithFloat64(index: Int) throws {
    let listed = OpenCLDevices.all(probe: true)[index].byteProducts
    let backend = try OpenCLBackend(index: index, family: .cpu)
    #expect(backend.multipliesBytes == listed)
    #expect(try !OpenCLBackend(index: index, family: .gpu).multipliesBytes)
    let rows = OperationCases.edge.filter { $0.operation(.float32).roundsLeft }
    #expect(rows.count > 10)
    for dtype in [DType.float32, .float16, .bfloat16] {
      for row in rows {
        if row.operation(dtype).isInt8Product {
          #expect(backend.supports(row.operation(dtype), inputs: row.specs(dtype)) == listed)
        }
        let agreement = try Agreement.check(row, on: Device(backend), dtype: dtype, seed: 4)
        #expect(agreement.passes, "\(agreement)")
      }
    }
  }

  /// A driver whose instruction is wrong costs speed alone.
  @Test(arguments: devices)
  func wrongSumsOfBytesAreNotUsed(index: Int) throws {
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(
      index: index, family: .cpu, programCache: folder.url, tuningCache: folder.url
    ) { source, text in
      source == .byteProbe ? text.replacing("vload16(i, b)", with: "vload16(i, a)") : text
    }
    #expect(!backend.multipliesBytes)
    let row = try #require(OperationCases.edge.first { $0.operation(.float32).roundsLeft })
    #expect(try Agreement.check(row, on: Device(backend), dtype: .float32, seed: 4).passes)
  }
}
