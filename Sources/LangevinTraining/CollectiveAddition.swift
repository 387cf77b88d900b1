/// How ranks divide the work of a sum, and in which order they add.
public enum RankOrder {
  /// The places of `size` that belong to a rank. The parts lie one after another and differ by at most one in length.
  public static func part(of size: Int, rank: Int, count: Int) -> Range<Int> {
    size * rank / count..<size * (rank + 1) / count
  }

  /// Adds numbers to as many others. The two do not overlap.
  public static func add(_ values: UnsafePointer<Float>, to sum: UnsafeMutablePointer<Float>, count: Int) {
    for i in 0..<count { sum[i] += values[i] }
  }
}
