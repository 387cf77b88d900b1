import CVectorMath
import LangevinTensor

/// Products with weights in blocks of `q8_0` that round their left operand too, as `Int8Rounding` says.
///
/// Processors without an instruction for them multiply what the rounded numbers stand for in float32, which takes as long
/// as without rounding.
extension CPUBackend {
  /// Whether products of int8 are quicker than those of float32 here.
  static let multipliesInt8 = vm_has_vnni() != 0

  func int8Matmul(_ matmul: MatMul, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    guard CPUBackend.multipliesInt8 else {
      var plain = matmul
      plain.right = .blocks(.q8)
      return try rounded(x) { try self.matmul(plain, $0, y) }
    }
    let size = matmul.size(left: x[0].shape, right: x[1].shape)
    let epilogue = EpilogueOperands(matmul.epilogue, x, columns: size.columns, rowsPerImage: 0)
    try multiplyInt8(
      x, rows: size.rows, inner: size.inner, columns: size.columns, scale: matmul.scale, epilogue,
      into: y.pointer)
  }

  func int8Conv2d(_ conv: Conv2D, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    guard CPUBackend.multipliesInt8, conv.isPointwise else {
      var plain = conv
      plain.weight = .blocks(.q8)
      return try rounded(x) { try conv2d(plain, $0, y) }
    }
    let (columns, rowsPerImage) = (y.shape[3], y.shape[1] * y.shape[2])
    let epilogue = EpilogueOperands(conv.epilogue, x, columns: columns, rowsPerImage: rowsPerImage)
    try multiplyInt8(
      x, rows: y.shape[0] * rowsPerImage, inner: x[0].shape[3], columns: columns, scale: 1, epilogue,
      into: y.pointer)
  }

  /// The operands with what the left one is rounded to.
  private func rounded(_ x: [FloatArray], _ body: ([FloatArray]) throws -> Void) throws {
    let count = x[0].shape.count
    let scratch = try pool.scratch(count)
    let size = Int8Rounding.count
    parallelFor(count / size, grain: elementGrain / size) { _, blocks in
      let first = blocks.lowerBound * size
      vm_round_to_int8(x[0].pointer + first, blocks.count, scratch.floats + first)
    }
    var operands = x
    operands[0] = FloatArray(pointer: scratch.floats, shape: x[0].shape)
    try body(operands)
    withExtendedLifetime(scratch) {}
  }

  /// C [rows, columns] = scale times the rounded rows of x[0] times the blocks of x[1], and the epilogue.
  ///
  /// The rows are rounded once. The weight becomes panels some columns at a time, as `Panels` has them, so that it is read
  /// once and no copy of its size is written.
  private func multiplyInt8(
    _ x: [FloatArray], rows m: Int, inner: Int, columns n: Int, scale: Float, _ epilogue: EpilogueOperands,
    into c: UnsafeMutablePointer<Float>
  ) throws {
    let blocks = inner / Int8Rounding.count
    let rowStorage = try pool.allocate(byteCount: max(m * blocks, 1) * MemoryLayout<vm_int8_row>.stride)
    let left = rowStorage.pointer.assumingMemoryBound(to: vm_int8_row.self)
    parallelFor(m * blocks, grain: elementGrain / Int8Rounding.count) { _, range in
      vm_int8_rows(
        x[0].pointer + range.lowerBound * Int8Rounding.count, range.count, left + range.lowerBound)
    }
    let weight = BlockOperand(.q8, x[1])
    let panelBytes = max(blocks, 1) * MemoryLayout<vm_int8_block>.stride
    let count = (n + 31) / 32
    let most = coreCount * max(1, Panels.cachedBytes / panelBytes)
    let parts = max(1, (count + most - 1) / most)
    let part = max(1, (count + parts - 1) / parts)
    let panelStorage = try pool.allocate(byteCount: part * panelBytes)
    let panels = panelStorage.pointer.assumingMemoryBound(to: vm_int8_block.self)
    for first in stride(from: 0, to: count, by: part) {
      let here = min(part, count - first)
      parallelFor(here, grain: max(elementGrain / (32 * max(inner, 1)), 1)) { _, range in
        for panel in range {
          vm_int8_panel(weight.bytes, inner, n, (first + panel) * 32, scale, panels + panel * blocks)
        }
      }
      let columns = first * 32..<min((first + here) * 32, n)
      let tasks = ProductTasks(rows: m, columns: columns)
      parallelFor(tasks.count, grain: 1) { _, range in
        for task in range {
          let (rows, part) = tasks[task]
          let out = c + rows.lowerBound * n + part.lowerBound
          let isFilled = epilogue.fill(out, ld: n, rows, part)
          vm_product_int8(
            left + rows.lowerBound * blocks, blocks, rows.count,
            panels + (part.lowerBound - columns.lowerBound) / 32 * blocks, part.count, out, n,
            isFilled ? 1 : 0)
          epilogue.activate(out, ld: n, rows, part)
        }
      }
    }
    withExtendedLifetime((rowStorage, panelStorage)) {}
  }
}
