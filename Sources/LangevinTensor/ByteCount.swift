/// Amounts of memory as people read them.
public enum ByteCount {
  /// `32 KiB`, `1.5 GiB`: in the largest unit of which there is one, with one decimal unless it is whole.
  public static func text(_ count: Int) -> String {
    var value = Double(count)
    var unit = 0
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 && unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10)" + (tenths % 10 == 0 ? "" : ".\(tenths % 10)") + " " + units[unit]
  }
}
