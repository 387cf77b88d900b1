import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import Testing

@testable import LangevinMeasurement
@testable import LangevinValidation

@Suite struct MachineReportTests {
  /// A report as a run would make it, without running.
  private func report() throws -> MachineReport {
    let device = Device(CPUBackend())
    var report = MachineReport(version: "1.2.3")
    report.devices = [.init(device), .init(name: "opencl:7", failure: "it is not there")]
    var validation = ValidationReport(version: "1.2.3", seed: 1)
    var found = DeviceReport(name: "cpu", description: "")
    var verdict = OperationVerdict(operation: "softmax")
    (verdict.passed, verdict.ran) = (12, 12)
    found.operations = [verdict]
    validation.devices = [found]
    report.validation = validation

    func bench(_ suite: BenchSuite, _ model: String?, _ name: String) -> BenchReport {
      var bench = BenchReport(version: "1.2.3", suite: suite, model: model, rounds: 3)
      bench.devices = [
        .init(name: "cpu", description: "", ceilings: Ceilings(flops: 300e9, bandwidth: 40e9))
      ]
      var row = BenchReport.Row(
        name: name, device: "cpu", dtype: .float32, verdict: .init(isValidated: true, note: "the reference"))
      row.wall = Sample([0.5, 0.5, 0.5])
      bench.rows = [row]
      bench.rank()
      return bench
    }
    report.operations = bench(.ops, nil, "matmul [2, 4096, 320] [320, 2560] model")
    report.steps = [bench(.step, "sd15-random", "step")]
    report.pictures = [
      .init(device: "cpu", prompt: "a prompt", seed: 1, steps: 20, hash: "abcdef", difference: 0, seconds: 2)
    ]
    return report
  }

  @Test func everySectionIsThere() throws {
    let text = try report().markdown
    for heading in [
      "Machine and versions", "Devices", "Ceilings", "Validation", "Products, convolution and attention",
      "Denoising steps", "The picture",
    ] {
      #expect(text.contains("\n## \(heading)\n"), "\(heading)")
    }
    for figure in [
      "300 GFLOP/s", "40.0 GB/s", "12 passed", "### matmul", "sd15-random", "abcdef", "0 of 255",
      CPUBackend.blasCore, "it is not there", "1.2.3", "| 2.00 ",
    ] {
      #expect(text.contains(figure), "no '\(figure)' in\n\(text)")
    }
    #expect(!text.contains("Partial"))
  }

  @Test func whatADeviceSaysOfItselfIsAColumn() throws {
    var report = try self.report()
    var card = MachineReport.Probed(Device(CPUBackend()))
    card.name = "opencl:0"
    card.identity = BackendIdentity(
      title: "A card", summary: "A card, driver 1.2", details: [.init("driver", "1.2"), .init("units", "8")])
    report.devices.append(card)
    let lines = report.markdown.split(separator: "\n").map(String.init)
    func row(_ name: String) -> String? {
      lines.first { $0.hasPrefix("| \(name) ") }?.filter { $0 != " " }
    }
    #expect(row("device") == "|device|what|driver|units|", "\(lines)")
    #expect(row("opencl:0") == "|opencl:0|Acard|1.2|8|")
    #expect(row("cpu")?.hasSuffix("|-|-|") == true)
    #expect(row("opencl:7")?.contains("itisnotthere") == true)
  }

  @Test func comesBackFromItsFile() throws {
    let report = try self.report()
    let url = FileManager.default.temporaryDirectory.appending(path: "report-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: url) }
    try MeasurementFile.write(report, to: url)
    #expect(try MachineReport.read(url).markdown == report.markdown)
    #expect(throws: MeasurementError.self) { try BenchReport.read(url) }
  }

  @Test func changesAreNamed() throws {
    let before = try report()
    var after = before
    #expect(MachineComparison(before, after).changes.isEmpty)
    after.version = "1.3.0"
    after.pictures[0].hash = "123456"
    after.validation?.devices[0].operations[0].failed = 1
    after.steps[0].rows[0].wall = Sample([0.25, 0.25, 0.25])
    let comparison = MachineComparison(before, after)
    #expect(comparison.changes.count == 3, "\(comparison.changes)")
    #expect(comparison.markdown.contains("langevin: 1.2.3, then 1.3.0"))
    #expect(comparison.markdown.contains("softmax on cpu: right, then not validated"))
    #expect(comparison.markdown.contains("abcdef, then 123456"))
    #expect(comparison.benches.map { $0.comparison.rows[0].verdict } == [.same, .faster])
  }
}
