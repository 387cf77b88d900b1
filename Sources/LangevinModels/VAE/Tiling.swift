import LangevinNN
import LangevinTensor

/// How an autoencoder cuts a picture that is too large for memory in one piece.
///
/// No map of features gets larger than a picture of `tile` by `tile` latents would need; what is small enough, near
/// the latent, runs in one piece, with its attention. Neighbours overlap and are blended linearly, as in diffusers'
/// `enable_tiling`; other than there, group norms take their statistics from all tiles together (`GroupStatistics`),
/// without which tiles differ in brightness and colour. With the shipped model's autoencoder at 256x256, tiles differ
/// from one piece by 0.2 levels of 255 on average, and with their own statistics by 2.2.
public struct Tiling: Sendable, Hashable {
  /// Height and width of a tile at most, in pixels of the latent; at least three times the overlap.
  public var tile = 64
  /// What neighbours share, in pixels of the latent.
  public var overlap = 16
  /// How often the tiles run only to measure, before they run to be seen. Each costs as much as decoding does, and
  /// comes closer to the picture without tiles; with 0 each tile has its own statistics.
  public var measuringPasses = 2

  /// Tiles of this size and overlap, in pixels of the latent.
  public init(tile: Int = 64, overlap: Int = 16, measuringPasses: Int = 2) {
    (self.tile, self.overlap, self.measuringPasses) = (tile, overlap, measuringPasses)
  }

  func check(model: String) throws {
    guard overlap > 0, tile >= 3 * overlap, tile <= 1 << 20, (0...100).contains(measuringPasses) else {
      throw ModelError.invalidInput(
        model: model,
        reason:
          "tiles of \(tile) with an overlap of \(overlap): the overlap must be at least 1, the tile three times "
          + "as large, and the passes 0 to 100")
    }
  }

  /// Tiles of equal length along one axis, neighbours sharing `overlap` or a little more.
  func ranges(_ length: Int) -> [Range<Int>] {
    guard length > tile else { return [0..<length] }
    let count = (length - overlap + tile - overlap - 1) / (tile - overlap)
    let size = (length + (count - 1) * overlap + count - 1) / count
    return (0..<count).map { index in
      let start = min(index * (size - overlap), length - size)
      return start..<start + size
    }
  }

  /// What each tile stands for: to the middle of what it shares with its neighbours.
  static func owned(_ ranges: [Range<Int>], length: Int) -> [Range<Int>] {
    let borders = zip(ranges, ranges.dropFirst()).map { ($0.upperBound + $1.lowerBound) / 2 }
    return zip([0] + borders, borders + [length]).map { $0..<$1 }
  }

  /// 0..<count in an order whose beginning is spread over all of it: steps of the golden ratio.
  static func mixed(_ count: Int) -> [Int] {
    (0..<count).sorted {
      (Double($0) * 0.618_033_988_749_895).truncatingRemainder(dividingBy: 1)
        < (Double($1) * 0.618_033_988_749_895).truncatingRemainder(dividingBy: 1)
    }
  }

  /// Runs `body` on tiles of x and puts together what it gives.
  ///
  /// x has `inputs` pixels for each of the latent's, the result `outputs`.
  func run(
    _ x: Tensor, inputs: Int, outputs: Int, body: (Tensor, GroupStatistics) throws -> Tensor
  ) throws -> Tensor {
    let statistics = GroupStatistics()
    let (height, width) = (x.shape[1] / inputs, x.shape[2] / inputs)
    let (rows, columns) = (ranges(height), ranges(width))
    let (ownRows, ownColumns) = (Tiling.owned(rows, length: height), Tiling.owned(columns, length: width))
    func tile(_ row: Int, _ column: Int) throws -> Tensor {
      let part = try x.sliced(rows[row].scaled(by: inputs), axis: 1)
        .sliced(columns[column].scaled(by: inputs), axis: 2)
      return try body(part, statistics)
    }
    for _ in 0..<measuringPasses {
      for index in Tiling.mixed(rows.count * columns.count) {
        let (row, column) = (index / columns.count, index % columns.count)
        let (r, c) = (rows[row], columns[column])
        statistics.region = GroupStatistics.Region(
          tile: index, height: r.count, width: c.count, rows: ownRows[row].shifted(by: -r.lowerBound),
          columns: ownColumns[column].shifted(by: -c.lowerBound))
        _ = try tile(row, column)
      }
      statistics.region = nil
    }
    let strips = try rows.indices.map { row in
      try Tiling.blended(
        columns.indices.map { try tile(row, $0) },
        at: columns.map { $0.scaled(by: outputs) }, axis: 2)
    }
    return try Tiling.blended(strips, at: rows.map { $0.scaled(by: outputs) }, axis: 1)
  }

  /// Parts [N, H, W, C] that lie at these ranges of an axis, in one: where two overlap, linearly from one to the
  /// other over the middle half, as what is next to a tile's edge misses what lies beyond it.
  static func blended(_ parts: [Tensor], at ranges: [Range<Int>], axis: Int) throws -> Tensor {
    var pieces: [Tensor] = []
    var begin = 0
    for (index, part) in parts.enumerated() {
      guard index + 1 < parts.count else {
        pieces.append(try part.sliced(begin..<part.shape[axis], axis: axis))
        break
      }
      let shared = ranges[index].upperBound - ranges[index + 1].lowerBound
      let end = part.shape[axis] - shared
      pieces.append(try part.sliced(begin..<end, axis: axis))
      let from = try part.sliced(end..<part.shape[axis], axis: axis)
      let to = try parts[index + 1].sliced(0..<shared, axis: axis)
      var shape: Shape = [1, 1, 1, 1]
      shape = shape.replacing(axis: axis, with: shared)
      let weights = (0..<shared).map { min(max((Float($0) + 0.5) / Float(shared) * 2 - 0.5, 0), 1) }
      let ramp = try Tensor(weights, shape, on: part.device)
      pieces.append(try from + (to - from) * ramp.cast(to: part.dtype))
      begin = shared
    }
    return try Tensor.concatenated(pieces, axis: axis)
  }
}

extension Range<Int> {
  fileprivate func shifted(by distance: Int) -> Range<Int> { lowerBound + distance..<upperBound + distance }
  fileprivate func scaled(by factor: Int) -> Range<Int> { lowerBound * factor..<upperBound * factor }
}
