/// What a user may have meant by a word that is not known.
package enum Suggestion {
  /// `; did you mean 'generate'?`, or nothing where no known word is near.
  package static func text(for word: String, among known: [String]) -> String {
    nearest(to: word, among: known).map { "; did you mean '\($0)'?" } ?? ""
  }

  /// The known word with the fewest typing slips from it, at most one for every three letters; of several one that
  /// begins alike.
  package static func nearest(to word: String, among known: [String]) -> String? {
    let limit = max(1, word.count / 3)
    let ranked = known.map { ($0, slips(word.lowercased(), $0.lowercased())) }
    func rank(_ item: (String, Int)) -> (Int, Int) {
      (item.1, item.0.first?.lowercased() == word.first?.lowercased() ? 0 : 1)
    }
    return ranked.filter { $0.1 <= limit }.min { rank($0) < rank($1) }?.0
  }

  /// How many letters must be put in, left out, changed, or swapped with the next: the optimal string alignment
  /// distance.
  static func slips(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a), Array(b))
    var rows = [Array(0...b.count)]
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var best = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (a[i] == b[j] ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, rows[i - 1][j - 1] + 1) }
        row.append(best)
      }
      rows.append(row)
    }
    return rows[a.count][b.count]
  }
}
