import LangevinTensor

/// A walk over a row-major output whose operands advance by strides of their own. Neighbouring axes that all
/// operands cross alike are merged, so that the innermost runs are as long as they can be.
struct StridedLoop {
  /// Extents of the outer axes.
  let outer: [Int]
  /// Length of an innermost run.
  let inner: Int
  /// The innermost stride of each operand.
  let innerStrides: [Int]
  /// By operand, then outer axis.
  private let outerStrides: [[Int]]

  init(_ shape: Shape, _ strides: [[Int]]) {
    var extents: [Int] = []
    var merged = strides.map { _ in [Int]() }
    for axis in 0..<shape.rank where shape[axis] != 1 {
      let joins =
        !extents.isEmpty
        && strides.indices.allSatisfy { merged[$0][extents.count - 1] == strides[$0][axis] * shape[axis] }
      if joins {
        extents[extents.count - 1] *= shape[axis]
        for operand in strides.indices { merged[operand][extents.count - 1] = strides[operand][axis] }
      } else {
        extents.append(shape[axis])
        for operand in strides.indices { merged[operand].append(strides[operand][axis]) }
      }
    }
    inner = extents.last ?? 1
    innerStrides = merged.map { $0.last ?? 1 }
    outer = Array(extents.dropLast())
    outerStrides = merged.map { Array($0.dropLast()) }
  }

  var rowCount: Int { outer.reduce(1, *) }

  func outerStride(operand: Int, axis: Int) -> Int { outerStrides[operand][axis] }

  /// Calls `body(row, offsets)` for each innermost run; `offsets` has the operands' first elements.
  func forEachRow(grain: Int, _ body: (_ row: Int, _ offsets: UnsafePointer<Int>) -> Void) {
    let operands = innerStrides.count
    parallelFor(rowCount, grain: grain) { _, rows in
      withUnsafeTemporaryAllocation(of: Int.self, capacity: outer.count + operands) { state in
        guard let index = state.baseAddress else { return }
        let offsets = index + outer.count
        offsets.initialize(repeating: 0, count: operands)
        var rest = rows.lowerBound
        for axis in stride(from: outer.count - 1, through: 0, by: -1) {
          index[axis] = rest % outer[axis]
          rest /= outer[axis]
          for operand in 0..<operands { offsets[operand] += index[axis] * outerStrides[operand][axis] }
        }
        for row in rows {
          body(row, offsets)
          var axis = outer.count - 1
          while axis >= 0 {
            index[axis] += 1
            let wraps = index[axis] == outer[axis]
            for operand in 0..<operands {
              offsets[operand] += outerStrides[operand][axis] * (wraps ? 1 - outer[axis] : 1)
            }
            if !wraps { break }
            index[axis] = 0
            axis -= 1
          }
        }
      }
    }
  }
}
