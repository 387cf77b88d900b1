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
  private struct Parts {
    let values: [Int]
    let build: ([Int]) -> (Operation, [Shape], [InputKind])
  }

  /// Valid cases with one extent lowered: to 1, by half, by one.
  static func candidates(_ test: OperationCase) -> [OperationCase] {
    let parts = parts(of: test)
    return [{ _ in 1 }, { $0 / 2 }, { $0 - 1 }].flatMap { (lower: (Int) -> Int) in
      parts.values.indices.compactMap { index -> OperationCase? in
        guard parts.values[index] > 1 else { return nil }
        var values = parts.values
        values[index] = lower(values[index])
        let (operation, shapes, kinds) = parts.build(values)
        let sizes = shapes.map(\.description).joined(separator: " ")
        let smaller = test.replacing(
          operation, shapes, kinds: kinds, name: "\(operation.name) \(sizes) shrunk")
        let isValid = (try? operation.output(of: smaller.specs(.float32)))?.shape.count ?? 0 > 0
        return isValid ? smaller : nil
      }
    }
  }

  private static func parts(of test: OperationCase) -> Parts {
    let (operation, shapes, kinds) = (test.operation(.float32), test.inputs.map(\.shape), test.kinds)
    switch operation.definition.extents(of: test.inputs) {
    case .own(let values, let build):
      return Parts(values: values) { values in
        let (smaller, shapes) = build(values)
        return (smaller, shapes, kinds)
      }
    case .shared(let payload, let rebuild):
      // Equal extents belong together: every place that has one gets the lower one.
      let all = shapes.flatMap(\.dimensions) + payload.dimensions
      let distinct = Set(all).filter { $0 > 1 }.sorted(by: >)
      return Parts(values: distinct) { values in
        let map = Dictionary(uniqueKeysWithValues: zip(distinct, values))
        func lowered(_ shape: Shape) -> Shape { Shape(shape.dimensions.map { map[$0] ?? $0 }) }
        let ids = kinds.map { kind in
          if case .ids(let count) = kind { InputKind.ids(map[count] ?? count) } else { kind }
        }
        return (rebuild(lowered), shapes.map(lowered), ids)
      }
    }
  }
}
