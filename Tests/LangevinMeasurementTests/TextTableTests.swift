import Foundation
import Langevin
import LangevinMeasurement
import LangevinTensor
import Testing

struct TextTableTests {
  private let words = "a result that is not what it should be, at element 12345 of many"

  private func table() -> TextTable {
    var table = TextTable([.left("name"), .right("seconds"), .left("result")])
    table.add(["short", "1.25 ms", "right"])
    table.add(["a longer name of a thing", "100.00 ms", words])
    table.add(["anamethathasnospacesatallinit", "1 s", ""])
    return table
  }

  @Test(arguments: [40, 60, 80, 100]) func textWrapsAndNumbersDoNot(width: Int) {
    let lines = table().lines(width: width)
    for line in lines { #expect(line.count <= width && !line.hasSuffix(" "), "\(line)") }
    let joined = lines.joined(separator: " ")
    for word in words.split(separator: " ") { #expect(joined.contains(word), "\(word)") }
    for number in ["1.25 ms", "100.00 ms", "1 s"] { #expect(lines.contains { $0.contains(number) }) }
  }

  @Test func whatFitsIsOneLineARow() {
    #expect(table().lines(width: 200) == table().lines && table().lines.count == 4)
  }

  /// Names and results of every length, on one device or many.
  @Test func reportsFitAHundredColumns() throws {
    var report = BenchReport(version: "0.1.0", suite: .step, model: "a-model-of-a-very-long-name", rounds: 3)
    for index in 0..<3 {
      let name = "opencl:\(index)"
      report.devices.append(
        .init(
          name: name,
          description: "pthread-A long name of a processor, Portable Computing Language, driver 3.1+debian",
          ceilings: Ceilings(flops: 1.23e11, bandwidth: 2.34e10)))
      var row = BenchReport.Row(
        name: "conv2d [2, 64, 64, 1280] 3x3 to 1280", device: name, dtype: .float16,
        verdict: .init(isValidated: index == 0, note: "it differs by 0.0123 of the largest number"))
      (row.load, row.cold) = (123.4567, 234.5678)
      (row.wall, row.kernels) = (Sample([0.1234, 0.1534]), Sample([0.1634, 0.1834]))
      (row.launches, row.work, row.floor) = (12345, Work(flops: 1e12, bytesRead: 1e9), 0.9)
      report.rows.append(row)
    }
    let lines = report.lines(width: 100)
    // Sentences are broken by the terminal.
    for line in lines where line.contains("  ") { #expect(line.count <= 100, "\(line)") }
    let stars = "* Longer than the wall time"
    #expect(lines.contains { $0.hasPrefix(stars) } && report.markdown.contains(stars))
    #expect(lines.contains { $0.hasPrefix("Above 100 % of a ceiling") })
    // A report without such figures explains nothing.
    for index in report.rows.indices {
      (report.rows[index].kernels, report.rows[index].floor) = (Sample([0.1]), 0.05)
    }
    #expect(!report.lines(width: 100).contains { $0.hasPrefix(stars) || $0.hasPrefix("Above") })
    #expect(!report.markdown.contains(stars) && !report.markdown.contains("Above 100 %"))
  }
}
