import Foundation
import LangevinCPU
import LangevinTensor
import Testing

import enum LangevinTensor.Operation

@testable import LangevinValidation

@Suite struct TableTests {
  @Test func everyOperationHasACase() {
    for cases in [OperationCases.edge, OperationCases.tiny] {
      let covered = Set(cases.map { $0.operation(.float32).name })
      #expect(OperationCases.required.subtracting(covered) == [])
    }
  }

  @Test func casesHaveNamesOfTheirOwn() {
    let names = OperationCases.all.map(\.name)
    let repeated = Dictionary(grouping: names) { $0 }.filter { $1.count > 1 }.keys
    #expect(repeated.isEmpty, "\(repeated)")
  }

  /// A program for every encoding and every type of activations would take minutes to compile and test nothing more.
  @Test(arguments: [Operation.Kind.matmul, .conv2d])
  func encodingsRunInOneTypeAndTypesWithOneEncoding(kind: Operation.Kind) {
    let rows = OperationCases.edge.filter { $0.operation(.float32).kind == kind }
    for all in [[DType.float32, .float16, .bfloat16], [.float16]] {
      func encodings(_ dtype: DType) -> Set<BlockEncoding> {
        Set(rows.filter { $0.storages(among: all).contains(dtype) }.compactMap(\.encoding))
      }
      #expect(encodings(all[0]) == Set(BlockEncoding.allCases))
      #expect(all.dropFirst().allSatisfy { encodings($0).count == 1 })
      #expect(rows.filter { $0.encoding == nil }.allSatisfy { $0.storages(among: all) == all })
    }
    #expect(
      OperationCases.edge.filter { $0.operation(.float32).kind == .dequantize }.allSatisfy {
        $0.storages(among: [.float32, .float16]) == [.float32]
      })
  }

  @Test func productsOfModelsAreInBlocksWhereTheirWeightsWouldBe() throws {
    let rows = OperationCases.model
    let inBlocks = rows.compactMap { $0.inBlocks(.q4K) }
    #expect(inBlocks.count > 60)
    for row in inBlocks {
      let output = try row.operation(.float32).output(of: row.specs(.float32))
      let dense = try #require(rows.first { row.name == "\($0.name) q4_K" })
      #expect(try output == dense.operation(.float32).output(of: dense.specs(.float32)), "\(row)")
      #expect(row.encoding == .q4K && row.operation(.float32).blockInput != nil)
    }
    // Of a convolution with 4 channels no output has whole blocks of inputs.
    let narrow = rows.filter { $0.operation(.float32).kind == .conv2d && $0.inputs[0].shape[-1] == 4 }
    #expect(
      !narrow.isEmpty && narrow.allSatisfy { $0.inBlocks(.q8) == nil || $0.inputs[1].shape[0] % 32 == 0 })
    #expect(rows.filter { $0.operation(.float32).kind == .attention }.allSatisfy { $0.inBlocks(.q8) == nil })
  }

  /// The file is what the models dispatch: the operations of a diffusion model are all there, each with a model.
  @Test func theHarvestIsValid() throws {
    let rows = ModelShapes.recorded
    #expect(rows.count > 150)
    for row in rows {
      #expect(!row.shape.models.isEmpty)
      let output = try row.shape.operation.output(of: row.shape.inputs)
      #expect(output.shape.count > 0 && row.test.size == .model)
    }
    let kinds = Set(rows.map { $0.shape.operation.kind })
    #expect(
      kinds.isSuperset(of: [
        .matmul, .conv2d, .attention, .groupNorm, .layerNorm, .geglu, .binary, .unary, .linearCombination,
        .embedding, .concatenate, .upsampleNearest, .normalNoise, .nonFiniteCount,
        .conv2dWeightGradient, .attentionGradient, .groupNormGradient, .layerNormGradient, .gegluGradient,
        .unaryGradient,
      ]))
    let models = Set(rows.flatMap(\.shape.models))
    #expect(models.count == 16, "\(models)")
    // Shapes known from the papers: SD 1.5's largest self-attention, and its decoder's.
    let attentions = Set(
      rows.filter { $0.shape.operation.kind == .attention }.map { $0.shape.inputs[0].shape })
    #expect(attentions.isSuperset(of: [[2, 4096, 320], [1, 4096, 512], [2, 9216, 320], [2, 77, 768]]))
    // FLUX.1's 24 heads of 128 over picture and text, and SD 3's 24 of 64.
    #expect(attentions.isSuperset(of: [[1, 512, 3072], [2, 589, 1536]]))
  }

  @Test func collectedShapesAreRepresentative() {
    var collector = ModelShapeCollector()
    let x = TensorSpec([2, 3])
    for (k, model) in ["b", "a"].enumerated() {
      collector.add(.affine(scale: Float(k), offset: 1), [x], model: model)
      collector.add(.linearCombination([Float(k), 7]), [x, x], model: model)
      collector.add(.unary(.silu), [TensorSpec([2, 3], k == 0 ? .float16 : .float32)], model: model)
    }
    #expect(collector.shapes.map(\.models) == [["a", "b"], ["a", "b"], ["a", "b"]])
    #expect(collector.shapes.map(\.inputs) == [[x], [x, x], [x]])
  }

  @Test(arguments: [
    ("{}", "format"), ("not json", "replay"), (#"{"format": 2, "version": "1"}"#, "seed"),
  ])
  func badReplaysAreNamed(text: String, word: String) {
    #expect {
      try Replay(text: text)
    } throws: { error in
      guard case ReplayError.malformed = error else { return false }
      return "\(error)".contains(word) || word == "seed"
    }
  }

  /// Numbers of which products overflow, which 32-bit arguments of a kernel do not hold, or which take all memory.
  private static let impossible: [(Operation, [[Int]])] = {
    func conv(_ height: Int, _ width: Int, padding: Int = 0) -> Operation {
      .conv2d(Conv2D(kernel: Extent2D(height: height, width: width), padding: Padding2D(padding)))
    }
    let noise = NormalNoise(seed: 1, stream: 0, step: 0, shape: [1 << 30])
    let shapes: [[Int]] = [
      [1 << 31], [1 << 31, 0], [1 << 28, 2], [4, 0, 1 << 40, 1 << 40], [1 << 40, 1 << 40], [.max, 2],
      [-1, -1],
    ]
    var result: [(Operation, [[Int]])] = shapes.map { (.unary(.silu), [$0]) }
    for factor in [1 << 20, 1 << 32, .max] {
      result.append((.upsampleNearest(factor: factor), [[1, 2, 2, 1]]))
    }
    result.append((.transpose([1, 0]), [[0, 1 << 27]]))
    result.append((.broadcast([1 << 31]), [[1]]))
    result.append((.broadcast([1 << 20, 1 << 20]), [[1]]))
    result.append((.pad(Pad(before: [.max], after: [1])), [[1]]))
    result.append((.matmul(MatMul()), [[1 << 20, 1], [1, 1 << 20]]))
    result.append((conv(1 << 28, 1 << 28), [[1, 1, 1, 1 << 20], [1 << 10, 1]]))
    result.append((conv(.max, 2), [[1, 1, 1, 1], [1, 1]]))
    result.append((conv(1, 1, padding: 1 << 31), [[1, 1, 1, 1], [1, 1]]))
    result.append((.normalNoise(noise), []))
    result.append((.fill(1, TensorSpec([1 << 62, 4])), []))
    return result
  }()

  @Test(arguments: impossible)
  func replaysOfImpossibleSizesAreRefused(operation: Operation, shapes: [[Int]]) {
    let test = OperationCase("absurd", operation, shapes.map { Shape($0) })
    let text = Replay(version: "1", test: test, dtype: .float32, seed: 1).text
    #expect {
      try Replay(text: text)
    } throws: { error in
      guard case ReplayError.malformed = error else { return false }
      return "\(error)".count < 300
    }
  }

  @Test func integersAreDrawnWithoutTrapping() {
    for kind in [InputKind.nonFinite, .constant(1e300), .ids(1 << 40), .mask, .extremes(-.infinity)] {
      let operand = Operand(TensorSpec([64], .int32), kind, seed: 1)
      let isFinite = operand.array.values.allSatisfy { $0.isFinite }
      #expect(isFinite, "\(kind)")
    }
  }

  @Test func replaysOfAnotherFormatSaySo() throws {
    let test = try #require(OperationCases.edge.first)
    let text = Replay(version: "9.9", test: test, dtype: .float16, seed: 3).text
    let other = text.replacingOccurrences(of: "\"format\":\(Replay.currentFormat)", with: "\"format\":99")
    #expect(throws: ReplayError.otherFormat(found: 99, version: "9.9")) { try Replay(text: other) }
  }

  @Test func everyCaseReplays() throws {
    for test in OperationCases.all {
      let replay = Replay(version: "x", test: test, dtype: .bfloat16, seed: .max)
      #expect(!replay.text.contains("\n") && !replay.text.contains("'"))
      let again = try Replay(text: replay.text)
      #expect(again.test == test && again.seed == .max && again.dtype == .bfloat16)
    }
  }

  @Test func drawsAreRepeatable() throws {
    for test in OperationCases.edge.prefix(40) + OperationCases.faultFinding {
      for dtype in [DType.float32, .float16, .bfloat16] {
        let (a, b) = (test.operands(dtype: dtype, seed: 5), test.operands(dtype: dtype, seed: 5))
        #expect(a.map(\.bytes) == b.map(\.bytes))
        #expect(a.map(\.spec) == test.specs(dtype))
      }
    }
  }

  @Test func percentilesAreExact() {
    var generator = Generator(seed: 1)
    for count in [1, 2, 3, 10, 999, 1000, 1001, 5000] {
      let values = (0..<count).map { _ in (generator.uniform() * 50).rounded() }
      for share in [0, 0.5, 0.999, 1] {
        let place = min(count - 1, max(0, Int((Double(count) * share).rounded(.up)) - 1))
        #expect(percentile(values, share) == values.sorted()[place])
      }
    }
  }

  @Test func unitsInTheLastPlace() {
    #expect(DType.float32.ulp(at: 1) == 0x1p-23 && DType.float32.ulp(at: -1.99) == 0x1p-23)
    #expect(DType.float16.ulp(at: 2048) == 2 && DType.float16.ulp(at: 0) == 0x1p-24)
    #expect(DType.bfloat16.ulp(at: 1) == 0x1p-7 && DType.int32.ulp(at: 1e9) == 1)
  }

  /// A part of a case has the whole's elements, and the one that is asked for among them.
  @Test func partsAgreeWithTheWhole() throws {
    var generator = Generator(seed: 6)
    var cutShort: Set<String> = []
    for test in OperationCases.edge where !test.inputs.isEmpty {
      let inputs = test.operands(dtype: .float32, seed: 2)
      let operation = test.operation(.float32)
      guard inputs.allSatisfy({ $0.spec.shape.count < 20_000 }) else { continue }
      let whole = try Reference.evaluate(operation, inputs.map(\.array))
      guard !whole.values.isEmpty else { continue }
      for seed in 3...8 as ClosedRange<UInt64> {
        let wanted = Int(generator.next() % UInt64(whole.values.count))
        let parts = Restriction.sample(operation, inputs, output: whole.spec, seed: seed, including: [wanted])
        #expect(parts.contains { $0.elements.contains(wanted) }, "\(test): \(wanted)")
        for part in parts {
          if part.elements.count < whole.values.count { cutShort.insert(operation.name) }
          let values = try Reference.evaluate(part.operation, part.inputs).values
          #expect(values.count == part.elements.count)
          for (value, element) in zip(values, part.elements) {
            let expected = whole.values[element]
            let isSame =
              value == expected || (value.isNaN && expected.isNaN)
              || abs(value - expected) <= 1e-9 * (1 + abs(expected))
            #expect(isSame, "\(test): element \(element) is \(value), of the whole \(expected)")
            if !isSame { return }
          }
        }
      }
    }
    // Nothing is shown of an operation whose every part was the whole.
    let restricted: Set = [
      "matmul", "conv2d", "attention", "group_norm", "conv2d_weight_gradient", "group_norm_gradient",
    ]
    #expect(cutShort.isSuperset(of: restricted), "\(restricted.subtracting(cutShort))")
  }

  @Test func smallerCasesAreValid() throws {
    for test in OperationCases.edge {
      for candidate in Shrinking.candidates(test) {
        let output = try candidate.operation(.float32).output(of: candidate.inputs)
        #expect(output.shape.count > 0)
        let size = candidate.inputs.reduce(output.shape.count) { $0 + $1.shape.count }
        let old = try test.inputs.reduce(test.operation(.float32).output(of: test.inputs).shape.count) {
          $0 + $1.shape.count
        }
        #expect(size <= old, "\(candidate) of \(test)")
      }
    }
  }
}
