import Foundation
import Synchronization
import Testing

@testable import Langevin

/// What the prefetcher's thread has been asked for.
private final class Record: Sendable {
  let made = Mutex<[Int]>([])

  func note(_ input: Int) { made.withLock { $0.append(input) } }

  var count: Int { made.withLock { $0.count } }

  /// Whether the count comes to this, within ten seconds.
  func reaches(_ wanted: Int) -> Bool {
    for _ in 0..<2000 {
      if count >= wanted { return true }
      usleep(5000)
    }
    return false
  }
}

@Suite struct PrefetcherTests {
  private struct Fault: Error, Equatable {
    let input: Int
  }

  @Test func valuesComeInTheOrderOfTheirInputs() throws {
    let prefetcher = Prefetcher(0..<100, ahead: 3) { input in
      if input % 7 == 0 { usleep(500) }
      return input * input
    }
    for input in 0..<100 { #expect(try prefetcher.next() == input * input) }
    #expect(try prefetcher.next() == nil)
    #expect(try prefetcher.next() == nil)
  }

  @Test func itRunsAheadAndNoFurtherThanAsked() throws {
    let record = Record()
    let prefetcher = Prefetcher(0..., ahead: 3) { input in
      record.note(input)
      return input
    }
    #expect(record.reaches(3))
    usleep(50_000)
    #expect(record.count == 3)
    #expect(try prefetcher.next() == 0)
    #expect(record.reaches(4))
    usleep(50_000)
    #expect(record.count == 4)
    #expect(try prefetcher.next() == 1)
  }

  @Test func anErrorComesInItsTurnAndEndsIt() throws {
    let record = Record()
    let prefetcher = Prefetcher(0..., ahead: 8) { input in
      record.note(input)
      if input == 3 { throw Fault(input: 3) }
      return input
    }
    #expect(record.reaches(4))
    for input in 0..<3 { #expect(try prefetcher.next() == input) }
    #expect(throws: Fault(input: 3)) { try prefetcher.next() }
    #expect(try prefetcher.next() == nil)
    usleep(20_000)
    #expect(record.count == 4)
  }

  @Test func itsThreadEndsWithIt() throws {
    let record = Record()
    final class Token: Sendable {}
    weak var token: Token?
    do {
      let held = Token()
      token = held
      let prefetcher = Prefetcher(0..., ahead: 2) { [held] input in
        withExtendedLifetime(held) { record.note(input) }
        return input
      }
      #expect(try prefetcher.next() == 0)
    }
    for _ in 0..<2000 where token != nil { usleep(5000) }
    #expect(token == nil)
  }

  @Test func whoeverWaitsIsReleasedByAStop() throws {
    let begun = Record()
    let prefetcher = Prefetcher(0..., ahead: 1) { input in
      begun.note(input)
      while begun.count < 100 { usleep(1000) }
      return input
    }
    #expect(begun.reaches(1))
    let answers = Record()
    let thread = Thread {
      if let value = try? prefetcher.next() { begun.note(value) } else { answers.note(1) }
    }
    thread.start()
    usleep(20_000)
    prefetcher.stop()
    #expect(answers.reaches(1))
    #expect(try prefetcher.next() == nil)
    for _ in 0..<100 { begun.note(0) }
  }

  @Test func batchesAreTheSameAheadOfTime() throws {
    let data = SolidData(count: 9, captions: 2)
    let batches = try PictureBatches(data, SampleOrder(data, seed: 3), Framing(width: 4, height: 4))
    let ranges = (0..<5 as Range<UInt64>).map { $0 * 4..<$0 * 4 + 4 }
    let prefetcher = Prefetcher(ranges) { try batches($0) }
    for range in ranges {
      let batch = try #require(try prefetcher.next())
      let again = try batches(range)
      #expect(batch.samples == range && batch.pixels == again.pixels && batch.captions == again.captions)
    }
    #expect(try prefetcher.next() == nil)
  }
}
