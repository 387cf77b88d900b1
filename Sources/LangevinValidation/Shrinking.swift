import LangevinTensor

/// Makes a failing case smaller while it fails.
enum Shrinking {
  /// The smallest failing case that was found by lowering one extent after the other, at most `budget` runs.
  static func smallest(_ test: OperationCase, budget: Int = 200, fails: (OperationCase) throws -> Bool)
    rethrows
    -> OperationCase
  {
    var (current, left) = (test, budget)
    search: while true {
      for candidate in candidates(current) {
        guard left > 0 else { return current }
        left -= 1
        if try fails(candidate) {
          current = candidate
          continue search
        }
      }
      return current
    }
  }

  /// The extents that a case is built from, and how.
  private struct Extents {
    let values: [Int]
    let build: ([Int]) -> (Operation, [Shape], [InputKind])
  }

  /// Valid cases with one extent lowered: to 1, by half, by one.
  static func candidates(_ test: OperationCase) -> [OperationCase] {
    let extents = extents(of: test)
    return [{ _ in 1 }, { $0 / 2 }, { $0 - 1 }].flatMap { (lower: (Int) -> Int) in
      extents.values.indices.compactMap { index -> OperationCase? in
        guard extents.values[index] > 1 else { return nil }
        var values = extents.values
        values[index] = lower(values[index])
        let (operation, shapes, kinds) = extents.build(values)
        let sizes = shapes.map(\.description).joined(separator: " ")
        let smaller = test.replacing(
          operation, shapes, kinds: kinds, name: "\(operation.name) \(sizes) shrunk")
        let isValid = (try? operation.output(of: smaller.specs(.float32)))?.shape.count ?? 0 > 0
        return isValid ? smaller : nil
      }
    }
  }

  private static func extents(of test: OperationCase) -> Extents {
    let (operation, shapes, kinds) = (test.operation(.float32), test.inputs.map(\.shape), test.kinds)
    func weight(_ layout: MatrixLayout, _ k: Int, _ n: Int) -> (MatrixLayout, Shape) {
      switch layout {
      case .rowMajor: (layout, [k, n])
      case .transposed: (layout, [n, k])
      case .panels(let width, _): (.panels(width: width, columns: n), [(n + width - 1) / width, k, width])
      }
    }
    switch operation {
    case .matmul(let matmul):
      guard let output = try? operation.output(of: test.inputs).shape else { break }
      let k = matmul.transposeLeft ? shapes[0][-2] : shapes[0][-1]
      let isPanels = if case .panels = matmul.right { true } else { false }
      let isBatched = !isPanels && shapes[1].rank > 2
      return Extents(values: output.dimensions + [k]) { values in
        let (batch, m, n, k) = (
          Array(values.dropLast(3)), values[values.count - 3], values[values.count - 2],
          values[values.count - 1]
        )
        var smaller = matmul
        let right: Shape
        (smaller.right, right) = weight(matmul.right, k, n)
        var result = [
          Shape(batch + (matmul.transposeLeft ? [k, m] : [m, k])),
          isBatched ? Shape(batch + right.dimensions) : right,
        ]
        if matmul.epilogue.bias { result.append([n]) }
        if matmul.epilogue.residual { result.append(Shape(batch + [m, n])) }
        return (.matmul(smaller), result, kinds)
      }
    case .conv2d(let conv):
      guard let output = try? operation.output(of: test.inputs).shape else { break }
      return Extents(values: shapes[0].dimensions + [output[3]]) { values in
        let x = Shape(Array(values.dropLast()))
        let n = values[4]
        var smaller = conv
        let right: Shape
        (smaller.weight, right) = weight(conv.weight, conv.kernel.height * conv.kernel.width * x[3], n)
        var result = [x, right]
        if conv.epilogue.bias { result.append([n]) }
        if conv.epilogue.perImage { result.append([x[0], n]) }
        if conv.epilogue.residual {
          let height = x[1] + conv.padding.top + conv.padding.bottom - conv.kernel.height
          let width = x[2] + conv.padding.left + conv.padding.right - conv.kernel.width
          result.append([x[0], height / conv.stride + 1, width / conv.stride + 1, n])
        }
        return (.conv2d(smaller), result, kinds)
      }
    case .attention(let attention):
      let size = shapes[0][2] / attention.heads
      let tokens = attention.causal ? [shapes[0][1]] : [shapes[0][1], shapes[1][1]]
      return Extents(values: [shapes[0][0], attention.heads, size] + tokens) { values in
        let (images, heads, size, queries, keys) = (
          values[0], values[1], values[2], values[3], values[values.count - 1]
        )
        var smaller = attention
        smaller.heads = heads
        let k: Shape = [images, keys, heads * size]
        var result: [Shape] = [[images, queries, heads * size], k, k]
        if attention.mask {
          result.append(shapes[3].rank == 3 ? [images, queries, keys] : [queries, keys])
        }
        return (.attention(smaller), result, kinds)
      }
    case .groupNorm(let norm):
      let lead = Array(shapes[0].dimensions.dropLast())
      return Extents(values: lead + [norm.groups, shapes[0][-1] / norm.groups]) { values in
        var smaller = norm
        smaller.groups = values[values.count - 2]
        let channels = smaller.groups * values[values.count - 1]
        return (
          .groupNorm(smaller), [Shape(Array(values.dropLast(2)) + [channels]), [channels], [channels]], kinds
        )
      }
    case .arrangeWeight(let arrangement):
      let taps = arrangement.taps
      return Extents(values: [arrangement.channels, arrangement.columns]) { values in
        let layout = weight(arrangement.layout, 1, values[1]).0
        return (
          .arrangeWeight(.convolution(values[1], values[0], taps: taps, layout: layout)),
          [[values[1], values[0], taps]], kinds
        )
      }
    default: break
    }
    // Equal extents belong together: every place that has one gets the lower one.
    let distinct = Set(shapes.flatMap(\.dimensions) + payload(operation)).filter { $0 > 1 }.sorted(by: >)
    return Extents(values: distinct) { values in
      let map = Dictionary(uniqueKeysWithValues: zip(distinct, values))
      func lowered(_ shape: Shape) -> Shape { Shape(shape.dimensions.map { map[$0] ?? $0 }) }
      let smaller: Operation =
        switch operation {
        case .broadcast(let shape): .broadcast(lowered(shape))
        case .fill(let value, let spec): .fill(value, TensorSpec(lowered(spec.shape), spec.dtype))
        case .normalNoise(var noise):
          {
            noise.shape = lowered(noise.shape)
            return .normalNoise(noise)
          }()
        default: operation
        }
      let ids = kinds.map { kind in
        if case .ids(let count) = kind { InputKind.ids(map[count] ?? count) } else { kind }
      }
      return (smaller, shapes.map(lowered), ids)
    }
  }

  /// Extents that stand in the operation itself.
  private static func payload(_ operation: Operation) -> [Int] {
    switch operation {
    case .broadcast(let shape): shape.dimensions
    case .fill(_, let spec): spec.shape.dimensions
    case .normalNoise(let noise): noise.shape.dimensions
    default: []
    }
  }
}
