import Dispatch
import Foundation
import Synchronization

/// A picture that cannot be decoded.
public struct BrokenPicture: Sendable, Hashable {
  /// Its place among the data's pictures.
  public let index: Int
  /// Names the file and says what is wrong with it.
  public let reason: String
}

extension TrainingData {
  /// Decodes every picture once, on all cores, and returns those that cannot be, in their order.
  ///
  /// `progress` is told between groups how many are done. Throws what it throws.
  public func brokenPictures(_ progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }) throws
    -> [BrokenPicture]
  {
    let group = 16 * ProcessInfo.processInfo.activeProcessorCount
    var broken: [BrokenPicture] = []
    for start in stride(from: 0, to: pictures.count, by: group) {
      let end = min(start + group, pictures.count)
      broken += forEachInParallel(start..<end) { index in
        do {
          _ = try picture(index)
          return nil
        } catch {
          return BrokenPicture(index: index, reason: "\(error)")
        }
      }.compactMap { $0 }
      try progress(end, pictures.count)
    }
    return broken
  }

  /// These data without the pictures that cannot be decoded, and those; or, unless they are to be skipped, an
  /// error where there is one.
  ///
  /// Throws `DataError.broken`, also where every picture is, and what `progress` throws.
  public func checked(
    skippingBroken: Bool, _ progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> (data: any TrainingData, broken: [BrokenPicture]) {
    let broken = try brokenPictures(progress)
    guard let first = broken.first else { return (self, []) }
    guard skippingBroken, broken.count < pictures.count else {
      throw DataError.broken(count: broken.count, total: pictures.count, first: first.reason)
    }
    return (PartOfData(of: self, without: Set(broken.map(\.index))), broken)
  }
}

/// Data without some of their pictures.
struct PartOfData: TrainingData {
  let pictures: [CaptionedPicture]
  private let whole: any TrainingData
  private let indices: [Int]

  init(of whole: any TrainingData, without omitted: Set<Int>) {
    self.whole = whole
    indices = whole.pictures.indices.filter { !omitted.contains($0) }
    pictures = indices.map { whole.pictures[$0] }
  }

  func picture(_ index: Int) throws -> Picture { try whole.picture(indices[index]) }
}

/// What `body` returns for each index, computed on all cores, in the order of the indices.
func forEachInParallel<Result: Sendable>(_ range: Range<Int>, _ body: @Sendable (Int) -> Result) -> [Result] {
  let results = Mutex<[Int: Result]>([:])
  DispatchQueue.concurrentPerform(iterations: range.count) { iteration in
    let result = body(range.lowerBound + iteration)
    results.withLock { $0[iteration] = result }
  }
  return results.withLock { results in (0..<range.count).compactMap { results[$0] } }
}
