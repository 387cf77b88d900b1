import CVectorMath
import LangevinTensor

/// Numbers in blocks, as they lie in memory.
struct BlockOperand {
  let encoding: BlockEncoding
  let bytes: UnsafePointer<UInt8>

  /// An operand of words, which nobody has widened.
  init(_ encoding: BlockEncoding, _ words: FloatArray) {
    self.encoding = encoding
    bytes = UnsafeRawPointer(words.pointer).assumingMemoryBound(to: UInt8.self)
  }
}

extension BlockEncoding {
  /// blocks.c's name.
  var vectorised: vm_blocks {
    switch self {
    case .q8: VM_Q8_0
    case .q5: VM_Q5_0
    case .q4: VM_Q4_0
    case .q4K: VM_Q4_K
    case .q6K: VM_Q6_K
    }
  }
}

extension CPUBackend {
  func dequantize(_ encoding: BlockEncoding, _ x: RawArray, _ y: RawArray) {
    let bytes = UnsafeRawPointer(x.pointer).assumingMemoryBound(to: UInt8.self)
    parallelFor(y.count, grain: elementGrain) { _, range in
      vm_dequantize(
        encoding.vectorised, bytes, range.lowerBound, range.count, y.floats + range.lowerBound)
    }
  }

  /// A product with a weight in blocks, whose numbers are decoded into the panels that the product reads.
  func matmul(
    _ matmul: MatMul, in encoding: BlockEncoding, _ x: [FloatArray], _ y: MutableFloatArray
  ) throws {
    let size = matmul.size(left: x[0].shape, right: x[1].shape)
    let blocks = BlockOperand(encoding, x[1])
    guard !matmul.transposeLeft else {
      // Rows that do not lie in one piece are BLAS's.
      let dense = try pool.scratch(size.columns * size.inner)
      vm_dequantize(encoding.vectorised, blocks.bytes, 0, size.columns * size.inner, dense.floats)
      var (plain, operands) = (matmul, x)
      plain.right = .transposed
      operands[1] = FloatArray(pointer: dense.floats, shape: [size.columns, size.inner])
      try self.matmul(plain, operands, y)
      return withExtendedLifetime(dense) {}
    }
    let epilogue = EpilogueOperands(matmul.epilogue, x, columns: size.columns, rowsPerImage: 0)
    try Panels.decoding(
      blocks, channels: size.inner, taps: 1, columns: size.columns, scale: matmul.scale, pool: pool
    ) { try multiply(x[0].pointer, rows: size.rows, k: size.inner, by: $0, epilogue, into: y.pointer) }
  }
}
