import LangevinTensor
import LangevinTestSupport
import Testing

@Suite struct FreeBlocksTests {
  @Test func theSmallestThatFitsIsTakenUnlessItIsMuchLarger() {
    var blocks = FreeBlocks<String>()
    #expect(blocks.take(1) == nil && blocks.dropOldest() == nil)
    for (name, size) in [("c", 3 << 20), ("a", 1 << 20), ("b", 2 << 20)] { blocks.add(name, size: size) }
    #expect(blocks.byteCount == 6 << 20)
    #expect(blocks.take((1 << 20) + 1) == nil)
    let taken = blocks.take(15 << 17)
    #expect(taken?.block == "b" && taken?.size == 2 << 20)
    #expect(blocks.take(2 << 20) == nil && blocks.byteCount == 4 << 20)
    #expect(blocks.take(4 << 20) == nil)
    #expect(blocks.take(1 << 20)?.block == "a")
  }

  @Test func whatNobodyWantedLongestIsDropped() {
    var blocks = FreeBlocks<String>()
    for (name, size) in [("large", 9000), ("small", 90), ("middle", 900)] { blocks.add(name, size: size) }
    let again = blocks.take(9000)
    blocks.add(again?.block ?? "", size: 9000)
    #expect((0..<4).map { _ in blocks.dropOldest() } == ["small", "middle", "large", nil])
    #expect(blocks.byteCount == 0)
  }

  /// Beside a list that is searched from end to end.
  @Test(arguments: 0..<20) func takesWhatAPlainSearchFinds(seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    var blocks = FreeBlocks<Int>()
    var plain: [(block: Int, size: Int)] = []
    for step in 0..<2000 {
      let size = Int.random(in: 1...(1 << 16), using: &generator)
      if Bool.random(using: &generator) {
        blocks.add(step, size: size)
        plain.append((step, size))
      } else {
        let fitting = plain.filter { size...size + size / 4 + 4096 ~= $0.size }.map(\.size).min()
        let taken = blocks.take(size)
        #expect(taken?.size == fitting)
        plain.removeAll { $0.block == taken?.block }
      }
      #expect(blocks.byteCount == plain.reduce(0) { $0 + $1.size })
    }
  }
}
