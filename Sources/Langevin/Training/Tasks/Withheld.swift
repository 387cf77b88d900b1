import LangevinTensor

extension TaskContext {
  /// Places of the last pictures by their names, which are measured and not learnt from. Throws `SettingsError` where
  /// none would be left.
  func withheld(_ count: Int) throws -> [Int] {
    let pictures = data.pictures
    guard pictures.indices.contains(count) else {
      throw SettingsError.value(
        key: "withheld", expected: "0 to \(pictures.count - 1), as there are \(pictures.count) pictures")
    }
    return Array(pictures.indices.sorted { pictures[$0].name < pictures[$1].name }.suffix(count))
  }

  /// The same without these pictures.
  func without(_ withheld: [Int]) -> TaskContext {
    var context = self
    if !withheld.isEmpty { context.data = PartOfData(of: data, without: Set(withheld)) }
    return context
  }
}
