import CVectorMath
import LangevinTensor

/// Products of operands that are stored in 16 bits. Packed weights are widened panel by panel; where the processor has
/// AVX512_BF16, bfloat16 is multiplied as it lies, two neighbours of the inner extent at a time.
extension Operation {
  /// Inputs that the operation reads as they are stored, beside those that are multiplied in pairs a residual.
  func operandsKept(_ inputs: [TensorView]) -> Set<Int> {
    var kept: Set<Int> = []
    if let packedInput { kept.insert(packedInput) }
    if let blockInput { kept.insert(blockInput) }
    return kept.union(pairedOperands(inputs))
  }

  /// Whether the operation is a product in pairs, which rounds its output itself.
  func roundsItself(_ inputs: [TensorView]) -> Bool {
    if case .attention = self { return false }
    return !pairedOperands(inputs).isEmpty
  }

  /// Inputs that are multiplied in pairs of bfloat16.
  private func pairedOperands(_ inputs: [TensorView]) -> Set<Int> {
    guard vm_has_avx512_bf16() != 0, inputs[0].dtype == .bfloat16 else { return [] }
    func isEven(_ channels: Int) -> Bool { channels > 0 && channels % 2 == 0 }
    func withResidual(_ epilogue: Epilogue) -> Set<Int> {
      epilogue.operands(Array(inputs.indices)).residual.map { [0, $0] } ?? [0]
    }
    switch self {
    case .matmul(let matmul):
      let isPaired =
        matmul.right == .packed && !matmul.transposeLeft && matmul.scale == 1 && isEven(inputs[0].shape[-1])
      return isPaired ? withResidual(matmul.epilogue) : []
    case .conv2d(let conv):
      let isPaired = conv.weight == .packed && isEven(inputs[0].shape[3])
      return isPaired ? withResidual(conv.epilogue) : []
    case .attention(let attention):
      return isEven(inputs[0].shape[2] / attention.heads) ? [0, 1] : []
    default: return []
    }
  }
}

extension FloatArray {
  /// Whether it is read in pairs.
  var isPaired: Bool { dtype == .bfloat16 }

  /// In words of the last axis: numbers, or pairs of them.
  var words: FloatArray {
    guard isPaired else { return self }
    return FloatArray(pointer: pointer, shape: Shape(shape.dimensions.dropLast() + [shape[-1] / 2]))
  }

  /// Memory of a packed weight [columns, rows] in 16 bits; nil for one in float32.
  var narrow: NarrowMatrix? {
    let shorts = UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt16.self)
    switch dtype {
    case .float16: return NarrowMatrix(type: VM_FLOAT16, shorts: shorts)
    case .bfloat16: return NarrowMatrix(type: VM_BFLOAT16, shorts: shorts)
    case .float32, .int32: return nil
    }
  }
}

/// A packed weight [columns, rows] in 16 bits.
struct NarrowMatrix {
  let type: vm_narrow
  let shorts: UnsafePointer<UInt16>

  /// As two bfloat16 a word.
  var pairs: UnsafePointer<Float> { UnsafeRawPointer(shorts).assumingMemoryBound(to: Float.self) }
}

extension CPUBackend {
  /// A product with a packed weight in 16 bits.
  func matmul(_ matmul: MatMul, in weight: NarrowMatrix, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    let size = matmul.size(left: x[0].shape, right: x[1].shape)
    guard !matmul.transposeLeft, size.inner > 0 else {
      // Rows that do not lie in one piece are BLAS's, and empty sums.
      let dense = try pool.scratch(size.columns * size.inner)
      widen(
        RawArray(
          pointer: UnsafeMutableRawPointer(mutating: weight.shorts),
          spec: TensorSpec([size.columns, size.inner], x[1].dtype)), dense.floats)
      var (plain, operands) = (matmul, x)
      plain.right = .transposed
      operands[1] = FloatArray(pointer: dense.floats, shape: [size.columns, size.inner])
      try self.matmul(plain, operands, y)
      return withExtendedLifetime(dense) {}
    }
    let epilogue = EpilogueOperands(matmul.epilogue, x, columns: size.columns, rowsPerImage: 0)
    let left = x[0].words
    try Panels.packing(
      weight, k: size.inner, columns: size.columns, scale: matmul.scale, inPairs: x[0].isPaired, pool: pool
    ) { try multiply(left.pointer, rows: size.rows, k: left.shape[-1], by: $0, epilogue, into: y.pointer) }
  }
}
