/// A walk over up to six axes with two sets of strides: extents of 1 are dropped, axes that are contiguous in
/// both are merged, and the front is filled with ones.
struct Walk {
  var extents: [Int] = []
  var first: [Int] = []
  var second: [Int] = []

  init(_ extents: [Int], _ first: [Int], _ second: [Int]) {
    for axis in extents.indices where extents[axis] != 1 {
      if let last = self.extents.indices.last, self.first[last] == first[axis] * extents[axis],
        self.second[last] == second[axis] * extents[axis]
      {
        self.extents[last] *= extents[axis]
        self.first[last] = first[axis]
        self.second[last] = second[axis]
      } else {
        self.extents.append(extents[axis])
        self.first.append(first[axis])
        self.second.append(second[axis])
      }
    }
    pad()
  }

  private mutating func pad() {
    let missing = 6 - extents.count
    precondition(missing >= 0, "more than six axes")
    extents.insert(contentsOf: [Int](repeating: 1, count: missing), at: 0)
    first.insert(contentsOf: [Int](repeating: 0, count: missing), at: 0)
    second.insert(contentsOf: [Int](repeating: 0, count: missing), at: 0)
  }

  /// The axis that is contiguous in the first strides, where the last is so only in the second and both are long
  /// enough for tiles: a transpose.
  var turnedAxis: Int? {
    guard first[5] != 1, second[5] == 1, extents[5] >= 4 else { return nil }
    return (0..<5).first { first[$0] == 1 && extents[$0] >= 4 }
  }

  /// Takes the last axis out where it is contiguous on both sides, and returns its extent.
  mutating func takeRun() -> Int {
    guard first[5] == 1, second[5] == 1 else { return 1 }
    let run = extents.removeLast()
    first.removeLast()
    second.removeLast()
    pad()
    return run
  }
}
