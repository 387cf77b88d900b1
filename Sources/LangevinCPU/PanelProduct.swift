import CVectorMath
import LangevinTensor

/// A product's right matrix [k, columns] in panels of 32 columns, as `vm_product` reads it, or some of its
/// panels; k counts words, each a number or a pair of bfloat16.
struct Panels {
  /// Fewer rows on the left do not pay for packing the right.
  static let fewestRows = 192
  /// Terms that are added before they go to the result.
  static let longestSum = 1024
  /// Bytes of panels for each core, which its caches keep until the product has read them.
  static let cachedBytes = 2 << 20

  /// Those that are here.
  let columns: Range<Int>
  /// The matrix's columns.
  let stride: Int
  /// Whether a word is a pair.
  let inPairs: Bool
  private let k: Int
  private let storage: CPUStorage
  private let start: UnsafeMutablePointer<Float>

  /// Of what lies in memory so.
  private init(_ storage: CPUStorage, k: Int, columns: Range<Int>, stride: Int, inPairs: Bool) {
    (self.storage, self.k, self.columns, self.stride) = (storage, k, columns, stride)
    self.inPairs = inPairs
    start = storage.floats
  }

  /// The matrix times `scale`; `b` is [columns, k] if transposed. `body` gets some panels after others.
  ///
  /// Throws `TensorError.outOfMemory` and what `body` throws.
  static func packing(
    _ b: UnsafePointer<Float>, k: Int, columns: Int, isTransposed: Bool, scale: Float = 1, pool: MemoryPool,
    _ body: (Panels) throws -> Void
  ) throws {
    try inParts(k: k, columns: columns, pool: pool, body) { panel, target in
      vm_pack_columns(b, k, columns, panel * 32, isTransposed ? 1 : 0, scale, target)
    }
  }

  /// A packed weight of 16-bit numbers [columns, k] times `scale`, or in pairs as they are. `body` gets some panels after
  /// others.
  ///
  /// Throws `TensorError.outOfMemory` and what `body` throws.
  static func packing(
    _ b: NarrowMatrix, k: Int, columns: Int, scale: Float = 1, inPairs: Bool, pool: MemoryPool,
    _ body: (Panels) throws -> Void
  ) throws {
    if inPairs {
      try inParts(k: k / 2, columns: columns, inPairs: true, pool: pool, body) { panel, target in
        vm_pack_columns(b.pairs, k / 2, columns, panel * 32, 1, 1, target)
      }
    } else {
      try inParts(k: k, columns: columns, pool: pool, body) { panel, target in
        vm_pack_narrow(b.type, b.shorts, k, columns, panel * 32, scale, target)
      }
    }
  }

  /// A weight [columns, channels, taps] in blocks, times `scale`. `body` gets some panels after others.
  ///
  /// Throws `TensorError.outOfMemory` and what `body` throws.
  static func decoding(
    _ blocks: BlockOperand, channels: Int, taps: Int, columns: Int, scale: Float = 1, pool: MemoryPool,
    _ body: (Panels) throws -> Void
  ) throws {
    try inParts(k: channels * taps, columns: columns, pool: pool, body) { panel, target in
      vm_pack_blocks(
        blocks.encoding.vectorised, blocks.bytes, channels, taps, columns, panel * 32, scale, target)
    }
  }

  /// Panels always come in the same memory: so the matrix is read once, and nothing of its size is written.
  private static func inParts(
    k: Int, columns: Int, inPairs: Bool = false, pool: MemoryPool, _ body: (Panels) throws -> Void,
    write: (_ panel: Int, _ target: UnsafeMutablePointer<Float>) -> Void
  ) throws {
    let count = (columns + 31) / 32
    let most = coreCount * max(1, cachedBytes / max(1, k * 32 * 4))
    let parts = max(1, (count + most - 1) / most)
    let size = max(1, (count + parts - 1) / parts)
    let storage = try pool.scratch(size * k * 32)
    for first in Swift.stride(from: 0, to: count, by: size) {
      let part = first..<min(first + size, count)
      parallelFor(part.count, grain: max(elementGrain / (32 * max(k, 1)), 1)) { _, range in
        for panel in range { write(first + panel, storage.floats + panel * k * 32) }
      }
      try body(
        Panels(
          storage, k: k, columns: part.lowerBound * 32..<min(part.upperBound * 32, columns), stride: columns,
          inPairs: inPairs))
    }
  }

  var count: Int { (columns.count + 31) / 32 }

  /// From a column, a multiple of 32, on.
  func from(column: Int) -> UnsafePointer<Float> {
    UnsafePointer(start + (column - columns.lowerBound) * k)
  }
}

extension CPUBackend {
  /// C [m, columns] = the left rows times the panels, and the epilogue, at the panels' columns.
  ///
  /// `place` says where the rows of the left matrix begin, `taps` rows of `inner` numbers each: `left[tap * rows.count +
  /// i]` for the i-th of the rows. Each element is one sum in one order, however the work is shared out. Of panels in pairs
  /// C is bfloat16, and what is computed is rounded while it is in a cache.
  func multiply(
    rows m: Int, taps: Int, inner: Int, by panels: Panels, _ epilogue: EpilogueOperands,
    into c: UnsafeMutablePointer<Float>,
    place: (_ rows: Range<Int>, _ left: UnsafeMutablePointer<UnsafePointer<Float>?>) -> Void
  ) throws {
    let n = panels.stride
    let tasks = ProductTasks(rows: m, columns: panels.columns)
    let size = ProductTasks.mostRows * taps
    let workers = workerCount(tasks.count, grain: 1)
    let capacity = workers * size
    let storage = try pool.allocate(byteCount: capacity * MemoryLayout<Int>.size)
    let blocks = panels.inPairs ? try pool.scratch(workers * tasks.mostOutputs) : nil
    let shorts = UnsafeMutableRawPointer(c).assumingMemoryBound(to: UInt16.self)
    let pointers = storage.pointer.bindMemory(to: UnsafePointer<Float>?.self, capacity: capacity)
    parallelFor(tasks.count, grain: 1) { worker, range in
      let left = pointers + worker * size
      for task in range {
        let (rows, columns) = tasks[task]
        place(rows, left)
        let start = rows.lowerBound * n + columns.lowerBound
        let out = blocks.map { $0.floats + worker * tasks.mostOutputs } ?? c + start
        let stride = blocks == nil ? n : columns.count
        let isFilled = epilogue.fill(out, ld: stride, rows, columns)
        let product = panels.inPairs ? vm_pair_product : vm_product
        product(
          left, taps, inner, rows.count, panels.from(column: columns.lowerBound), columns.count, out, stride,
          isFilled ? 1 : 0, panels.inPairs ? Panels.longestSum / 2 : Panels.longestSum)
        epilogue.activate(out, ld: stride, rows, columns)
        if blocks != nil {
          for row in 0..<rows.count {
            vm_float_to_bfloat(out + row * stride, shorts + start + row * n, columns.count)
          }
        }
      }
    }
    withExtendedLifetime((storage, blocks, panels)) {}
  }

  /// The same for a left matrix [m, k] that lies in one piece.
  func multiply(
    _ a: UnsafePointer<Float>, rows m: Int, k: Int, by panels: Panels, _ epilogue: EpilogueOperands,
    into c: UnsafeMutablePointer<Float>
  ) throws {
    try multiply(rows: m, taps: 1, inner: k, by: panels, epilogue, into: c) { rows, left in
      for row in rows { left[row - rows.lowerBound] = a + row * k }
    }
  }
}
