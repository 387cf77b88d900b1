/// How a product is shared out over the cores: by rows, and where these are few by columns too.
struct ProductTasks {
  /// What a task reads and writes stays in its core's cache.
  static let mostRows = 96
  private static let (mostColumns, fewest) = (512, 16)
  private let rows: Int
  private let columns: Range<Int>
  private let width, groups: Int

  init(rows: Int, columns: Range<Int>) {
    (self.rows, self.columns) = (rows, columns)
    let blocks = max(1, (rows + ProductTasks.mostRows - 1) / ProductTasks.mostRows)
    let wanted = max(
      (columns.count + ProductTasks.mostColumns - 1) / ProductTasks.mostColumns,
      (ProductTasks.fewest + blocks - 1) / blocks)
    width = ((columns.count + wanted - 1) / wanted + 31) / 32 * 32
    groups = (columns.count + width - 1) / width
  }

  /// Of a task at most.
  var mostOutputs: Int { ProductTasks.mostRows * width }

  var count: Int { (rows + ProductTasks.mostRows - 1) / ProductTasks.mostRows * groups }

  subscript(task: Int) -> (rows: Range<Int>, columns: Range<Int>) {
    let row = task / groups * ProductTasks.mostRows
    let column = columns.lowerBound + task % groups * width
    return (row..<min(row + ProductTasks.mostRows, rows), column..<min(column + width, columns.upperBound))
  }
}
