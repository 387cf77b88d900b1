/// Blocks of memory that a backend keeps for reuse. What it gives away or drops, its owner takes or frees.
package struct FreeBlocks<Block> {
  fileprivate struct Entry {
    let size: Int
    /// Grows with each block that is added.
    let age: Int
    let block: Block
  }

  /// In ascending order of size.
  private var entries: [Entry] = []
  private var added = 0
  /// Of all blocks.
  package private(set) var byteCount = 0

  package init() {}

  /// The smallest block that holds so many bytes, if it is no more than a quarter larger: blocks of near sizes serve each
  /// other, and little of one lies idle.
  package mutating func take(_ size: Int) -> (block: Block, size: Int)? {
    let index = self.index(size)
    guard index < entries.count, entries[index].size <= size + size / 4 + 4096 else { return nil }
    return remove(index)
  }

  package mutating func add(_ block: Block, size: Int) {
    entries.insert(Entry(size: size, age: added, block: block), at: index(size))
    added += 1
    byteCount += size
  }

  /// Of the blocks kept, the one that nobody has wanted for the longest time; nil where there is none.
  package mutating func dropOldest() -> Block? {
    entries.indices.min { entries[$0].age < entries[$1].age }.map { remove($0).block }
  }

  /// Where the first block of at least this size is.
  private func index(_ size: Int) -> Int {
    var (low, high) = (0, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].size < size { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private mutating func remove(_ index: Int) -> (block: Block, size: Int) {
    let entry = entries.remove(at: index)
    byteCount -= entry.size
    return (entry.block, entry.size)
  }
}

extension FreeBlocks: Sendable where Block: Sendable {}
extension FreeBlocks.Entry: Sendable where Block: Sendable {}
