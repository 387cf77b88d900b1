import Foundation
import LangevinMeasurement
import LangevinTensor
import Testing

@Suite struct BenchComparisonTests {
  private func sample(_ values: Double...) throws -> Sample { try #require(Sample(values)) }

  @Test func orderStatistics() throws {
    let sample = try self.sample(5, 1, 4, 2, 3)
    #expect(sample.median == 3)
    #expect(sample.quartiles.lower == 2 && sample.quartiles.upper == 4)
    #expect(abs(sample.spread - 2.0 / 3) < 1e-12)
    #expect(try self.sample(1, 2).median == 1.5)
    #expect(Sample([]) == nil)
  }

  @Test func onlyWhatIsBeyondTheNoiseCounts() throws {
    let steady = try sample(1.00, 1.00, 1.01, 0.99, 1.00)
    #expect(try BenchComparison.verdict(steady, sample(0.80, 0.81, 0.80, 0.79, 0.80)) == .faster)
    #expect(try BenchComparison.verdict(steady, sample(1.20, 1.21, 1.20, 1.19, 1.20)) == .slower)
    // Less than 3%, however steady.
    #expect(try BenchComparison.verdict(steady, sample(1.02, 1.02, 1.02, 1.02, 1.02)) == .same)
    #expect(try BenchComparison.verdict(steady, sample(0.98, 0.98, 0.98, 0.98, 0.98)) == .same)
    // 10%, but either sample's quartiles are further apart.
    #expect(try BenchComparison.verdict(steady, sample(0.7, 0.8, 1.1, 1.3, 1.4)) == .same)
    #expect(try BenchComparison.verdict(sample(0.7, 0.8, 1.1, 1.3, 1.4), steady) == .same)
    #expect(BenchComparison.verdict(steady, steady) == .same)
  }

  private func row(
    _ name: String, _ device: String, _ wall: [Double], isValidated: Bool = true
  ) -> BenchReport.Row {
    var row = BenchReport.Row(
      name: name, device: device, dtype: .float32, verdict: .init(isValidated: isValidated, note: "a note"))
    row.wall = Sample(wall)
    row.work = Work(flops: 4e9, bytesRead: 1e9, bytesWritten: 1e9)
    row.floor = 0.25
    return row
  }

  private func report(_ rows: [BenchReport.Row]) -> BenchReport {
    var report = BenchReport(version: "1", suite: .ops, model: nil, rounds: 3)
    report.devices = [
      .init(name: "cpu", description: "a processor", ceilings: Ceilings(flops: 100e9, bandwidth: 10e9))
    ]
    report.rows = rows
    return report
  }

  @Test func rowsMeetByNameAndDevice() throws {
    let before = report([
      row("a", "cpu", [1, 1, 1]), row("a", "opencl:0", [2, 2, 2]), row("b", "cpu", [1, 1, 1]),
      row("c", "cpu", [1, 1, 1]),
    ])
    let after = report([
      row("a", "opencl:0", [1, 1, 1]), row("a", "cpu", [2, 2, 2]),
      row("b", "cpu", [0.1, 0.1, 0.1], isValidated: false), row("d", "cpu", [1, 1, 1]),
    ])
    let comparison = BenchComparison(before, after)
    #expect(comparison.rows.map(\.name) == ["a", "a", "b", "c", "d"])
    #expect(comparison.rows.map(\.verdict) == [.slower, .faster, .invalid, .missing, .missing])
    #expect(comparison.rows[0].speedup == 0.5 && comparison.rows[1].speedup == 2)
    #expect(comparison.remarks.isEmpty)
    let line = "| a        | opencl:0 | 2.00 s ± 0 % | 1.00 s ± 0 %    | 2.00x  | faster        |"
    #expect(comparison.markdown.contains(line))
    #expect(comparison.summary == "1 faster, 1 slower, 1 not validated, 2 not in both")
  }

  @Test func otherConditionsAreRemarkedOn() {
    var after = report([])
    after.devices[0].description = "another processor"
    after.model = "m"
    after.isPartial = true
    let comparison = BenchComparison(report([]), after)
    #expect(comparison.remarks.count == 3)
    #expect(comparison.markdown.contains("another processor"))
  }

  @Test func whatIsNotValidatedHasNoRank() throws {
    var report = self.report([
      row("a", "cpu", [2, 2, 2]), row("a", "opencl:0", [1, 1, 1], isValidated: false),
      row("a", "opencl:1", [1.5, 1.5, 1.5]), row("b", "cpu", [1, 1, 1]), row("b", "opencl:0", []),
    ])
    report.rank()
    #expect(report.rows.map(\.rank) == [2, nil, 1, 1, nil])
    #expect(report.markdown.contains("**not validated:** a note"))
    let (flops, fraction) = (
      try #require(report.rows[0].flopsPerSecond), try #require(report.rows[0].fraction)
    )
    #expect(flops == 2e9 && fraction == 0.125 && report.rows[0].bytesPerSecond == 1e9)
  }

  @Test func filesComeBackAsTheyWent() throws {
    var written = report([row("a", "cpu", [2, 1, 3]), row("b", "cpu", [])])
    written.rank()
    let url = FileManager.default.temporaryDirectory.appending(path: "bench-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: url) }
    try MeasurementFile.write(written, to: url)
    let read = try BenchReport.read(url)
    #expect(read.markdown == written.markdown)
    #expect(read.rows[0].wall == Sample([1, 2, 3]) && read.rows[1].wall == nil)
    #expect(read.devices[0].ceilings == written.devices[0].ceilings)

    written.format = 99
    try MeasurementFile.write(written, to: url)
    let error = #expect(throws: MeasurementError.self) { try BenchReport.read(url) }
    #expect("\(try #require(error))".contains("format 99"))
    try MeasurementFile.write("{}", to: url)
    #expect(throws: MeasurementError.self) { try BenchReport.read(url) }
    #expect(throws: MeasurementError.self) { try BenchReport.read(url.appendingPathExtension("none")) }
  }

  @Test func digestsOfTheStandard() {
    #expect(
      SHA256.hex([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(
      SHA256.hex(Array("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      SHA256.hex(Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8))
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    #expect(
      SHA256.hex([UInt8](repeating: 0x61, count: 1_000_000))
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }
}
