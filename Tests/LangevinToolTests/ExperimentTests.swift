import Foundation
import LangevinExperiment
import Testing

/// `langevin experiment`.
struct ExperimentTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test func writesAPageAndItsNumbers() throws {
    let arguments = ["experiment", "--quick", "--device", "cpu", "--seed", "11", "--output", "new/out"]
    let outcome = try Tool.run(arguments, in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)\(outcome.output)")
    let folder = scratch.url("new/out")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        == ["index.html", "results.json"])
    let page = try String(contentsOf: folder.appendingPathComponent("index.html"), encoding: .utf8)
    #expect(page.components(separatedBy: "<div class=\"figure\"><svg").count == 7)
    #expect(!page.contains("nan") && !page.contains("does not hold"))
    let data = try Data(contentsOf: folder.appendingPathComponent("results.json"))
    let report = try JSONDecoder().decode(ExperimentReport.self, from: data)
    #expect(report.seed == 11 && report.device == "cpu" && report.claims.count > 15)
    #expect(outcome.output.contains("new/out/index.html"))
  }

  @Test func badInputIsFoundBeforeComputing() throws {
    let cases: [([String], Int32, String)] = [
      (["--device", "foo"], 64, "unknown device 'foo'"),
      (["--device", "opencl:99"], 64, "no device opencl:99"),
      (["--output", "/proc/nowhere"], 1, "/proc/nowhere: cannot be written"),
      (["--output", "file"], 1, "it is a file, not a folder"), (["--seed", "-1"], 64, "-1"),
      (["--output", "taken"], 1, "taken/index.html: cannot be written"),
    ]
    #expect(FileManager.default.createFile(atPath: scratch.url("file").path, contents: nil))
    try FileManager.default.createDirectory(
      at: scratch.url("taken/index.html"), withIntermediateDirectories: true)
    for (arguments, status, words) in cases {
      let outcome = try Tool.run(["experiment"] + arguments, in: scratch.folder)
      #expect(outcome.status == status, "\(arguments): \(outcome.errors)")
      #expect(outcome.errorLines.count == 1 && outcome.errors.contains(words), "\(outcome.errors)")
    }
    #expect(try scratch.files() == ["file", "taken"])
  }
}
