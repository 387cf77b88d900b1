import LangevinTestSupport
import Testing

@testable import LangevinCPU

@Suite struct MemoryPoolTests {
  /// Allocates blocks of these sizes one after another; each lives until `kept` more are there.
  private func run(_ pool: MemoryPool, _ sizes: [Int], kept: Int) throws -> Set<UnsafeMutableRawPointer> {
    var (blocks, seen): ([CPUStorage], Set<UnsafeMutableRawPointer>) = ([], [])
    for size in sizes {
      if blocks.count == kept { blocks.removeFirst() }
      blocks.append(try pool.allocate(byteCount: size))
      seen.insert(blocks[blocks.count - 1].pointer)
    }
    return seen
  }

  /// Soon: a block that served a smaller one is missed once.
  @Test(arguments: 0..<20) func aStepThatIsRepeatedTakesTheSameBlocks(seed: UInt64) throws {
    var generator = SeededGenerator(state: seed)
    let sizes = (0..<300).map { _ in Int.random(in: 1...(1 << 20), using: &generator) }
    let pool = MemoryPool(device: "test", limit: 1 << 40, leastBudget: 1 << 40)
    var seen: Set<UnsafeMutableRawPointer> = []
    for _ in 0..<4 { seen.formUnion(try run(pool, sizes, kept: 40)) }
    for _ in 0..<3 { #expect(try run(pool, sizes, kept: 40).isSubset(of: seen)) }
    #expect(pool.use.cached <= 2 * pool.use.highWater)
  }

  @Test(arguments: 0..<20) func littleMoreIsHeldThanWasEverInUse(seed: UInt64) throws {
    var generator = SeededGenerator(state: seed)
    let pool = MemoryPool(device: "test", limit: 1 << 40, leastBudget: 0)
    for _ in 0..<5 {
      let largest = Int.random(in: 1000...(1 << 22), using: &generator)
      let sizes = (0..<200).map { _ in Int.random(in: 1...largest, using: &generator) }
      var blocks: [CPUStorage] = []
      for size in sizes {
        if blocks.count > 30 { blocks.remove(at: Int.random(in: 0..<30, using: &generator)) }
        blocks.append(try pool.allocate(byteCount: size))
        let use = pool.use
        #expect(use.inUse + use.cached <= use.highWater + use.highWater / 16)
      }
    }
    #expect(pool.use.inUse == 0 && pool.use.cached > 0)
  }

  @Test func whatIsKeptGivesWayToTheLimit() throws {
    let pool = MemoryPool(device: "test", limit: 1 << 20)
    _ = try pool.allocate(byteCount: 700_000)
    #expect(pool.use.cached > 0)
    let block = try pool.allocate(byteCount: 900_000)
    #expect(pool.use.cached == 0 && block.byteCount == 900_000)
    #expect(throws: (any Error).self) { try pool.allocate(byteCount: 200_000) }
  }
}
