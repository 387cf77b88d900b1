/// A part of a picture that a network of convolutions computes by itself.
public struct PictureTile: Sendable, Hashable {
  /// Rows of the picture that the network sees.
  public let rows: Range<Int>
  /// Columns of the picture that the network sees.
  public let columns: Range<Int>
  /// Those of the rows whose result is kept.
  public let ownRows: Range<Int>
  /// Those of the columns whose result is kept.
  public let ownColumns: Range<Int>
}

extension Tiling {
  /// Tiles of one size whose own parts cover a picture, row by row. Sizes are in pixels of the picture, all
  /// of them multiples of `multiple`.
  ///
  /// Every pixel has half of the overlap around it, or the picture's edge: where a network reaches no
  /// farther, tiles change nothing. Throws `ModelError.invalidInput` where the overlap does not fit the tile.
  public func tiles(height: Int, width: Int, multiple: Int = 1) throws -> [PictureTile] {
    try check(model: "Tiling")
    // Half an overlap is a multiple, too.
    let unit = Tiling(
      tile: max(tile / multiple, 3 * (overlap / multiple)), overlap: overlap / multiple, measuringPasses: 0)
    func axis(_ length: Int) -> [(seen: Range<Int>, own: Range<Int>)] {
      let ranges = unit.ranges(length / multiple)
      return zip(ranges, Tiling.owned(ranges, length: length / multiple)).map {
        (
          $0.lowerBound * multiple..<$0.upperBound * multiple,
          $1.lowerBound * multiple..<$1.upperBound * multiple
        )
      }
    }
    let (rows, columns) = (axis(height), axis(width))
    return rows.flatMap { row in
      columns.map {
        PictureTile(rows: row.seen, columns: $0.seen, ownRows: row.own, ownColumns: $0.own)
      }
    }
  }
}
