import Foundation
import LangevinMeasurement
import LangevinValidation
import Testing

@Suite(.serialized) struct BenchToolTests {
  @Test func stepOnTwoDevicesAndComparison() throws {
    let scratch = try Scratch()
    let pocl = try Tool.pocl()
    let outcome = try Tool.run(
      [
        "bench", "--devices", "cpu,\(pocl)", "--suite", "step", "--rounds", "2", "--json", "a.json",
        "--markdown", "a.md", "--quiet",
      ], in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.errors.isEmpty)
    let report = try BenchReport.read(scratch.url("a.json"))
    #expect(report.rows.map(\.device) == ["cpu", pocl])
    #expect(report.rows.compactMap(\.rank).sorted() == [1, 2])
    #expect(report.rows.allSatisfy { $0.wall?.values.count == 2 && $0.fraction != nil })
    #expect(try String(contentsOf: scratch.url("a.md"), encoding: .utf8) == report.markdown)
    // Two narrow tables with what the wide one has.
    for word in ["device", "rank", "wall", "kernels", "launches", "GFLOP/s", "of ceiling", "cold", "result"] {
      #expect(outcome.output.contains(word), "\(outcome.output)")
    }

    let comparison = try Tool.run(
      ["bench", "--compare", "a.json", "a.json", "--markdown", "b.md"], in: scratch.folder)
    #expect(comparison.status == 0, "\(comparison.errors)")
    #expect(comparison.output.contains("2 within the noise."))
    #expect(try String(contentsOf: scratch.url("b.md"), encoding: .utf8).contains("| workload"))
  }

  @Test func operationsByName() throws {
    let scratch = try Scratch()
    let outcome = try Tool.run(
      [
        "bench", "--devices", "cpu", "--suite", "ops", "--op", "geglu", "--model", "SD 1.5", "--rounds", "1",
        "--json", "a.json",
      ],
      in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    let report = try BenchReport.read(scratch.url("a.json"))
    #expect(!report.rows.isEmpty && report.rows.allSatisfy { $0.name.hasPrefix("geglu") && $0.rank == 1 })
  }

  /// A step of several pictures, and one with weights in blocks, on the shipped model.
  @Test func stepsOfSeveralPicturesAndInBlocks() throws {
    let (scratch, pocl) = (try Scratch(), try Tool.pocl())
    func step(_ options: [String]) throws -> BenchReport.Row {
      let outcome = try Tool.run(
        ["bench", "--devices", pocl, "--rounds", "1", "--quiet", "--json", "a.json"] + options,
        in: scratch.folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      let row = try #require(try BenchReport.read(scratch.url("a.json")).rows.first)
      #expect(row.verdict.isValidated, "\(row.verdict.note)")
      return row
    }
    let (one, two, blocks) = (
      try step([]), try step(["--batch", "2"]), try step(["--encoding", "q8_0"])
    )
    #expect(two.name == "step, 2 pictures" && two.work?.flops ?? 0 > 1.9 * (one.work?.flops ?? 0))
    #expect(blocks.work?.flops == one.work?.flops)
    #expect(try #require(blocks.work).bytes < #require(one.work).bytes)
    for (options, words) in [
      (["--suite", "ops", "--batch", "2"], "--suite step"), (["--batch", "0"], "1 to 64"),
      (["--suite", "gradients", "--encoding", "q8_0"], "no gradients"),
    ] {
      let outcome = try Tool.run(["bench", "--devices", "cpu"] + options, in: scratch.folder)
      #expect(outcome.status == 64 && outcome.errors.contains(words), "\(outcome.errors)")
    }
  }

  @Test func aQuickReport() throws {
    let scratch = try Scratch()
    let outcome = try Tool.run(
      ["report", "--device", "cpu", "--quick", "--rounds", "1", "--output", "r.md"], in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.output == "r.md\nr.json\n")
    let report = try MachineReport.read(scratch.url("r.json"))
    #expect(try String(contentsOf: scratch.url("r.md"), encoding: .utf8) == report.markdown)
    #expect(!report.isPartial && report.steps.count == 1)
    #expect(report.validation?.devices.first?.passes == true)
    // What passed is counted, not listed: the file is to be shared.
    #expect(report.validation?.devices.first?.cases.allSatisfy { $0.outcome != .passed } == true)
    #expect(report.operations?.rows.isEmpty == false)
    #expect(report.pictures.first?.hash?.count == 64 && report.pictures.first?.difference == 0)
    let comparison = try Tool.run(["report", "--compare", "r.json", "r.json"], in: scratch.folder)
    #expect(comparison.output.contains("Nothing else changed."), "\(comparison.errors)")
  }

  private static let bad: [(arguments: [String], status: Int32, words: [String])] = [
    (
      ["bench", "--suite", "nothing"], 64, ["nothing", "ops", "clip", "unet", "vae", "step", "image"]
    ),
    (["bench", "--suite", "ops", "--op", "nothing"], 64, ["nothing", "matmul", "conv2d"]),
    (["bench", "--suite", "ops", "--model", "nothing"], 64, ["nothing", "SD 1.5 UNet"]),
    (["bench", "--devices", "cpu,cpu"], 64, ["twice"]),
    (["bench", "--op", "matmul"], 64, ["--suite ops"]),
    (["bench", "--devices", "opencl:99"], 64, ["opencl:99", "cpu"]),
    (["bench", "--devices", "cpu", "--model", "nowhere"], 1, ["nowhere"]),
    (["bench", "--rounds", "0"], 64, ["--rounds"]),
    (["bench", "--compare", "nowhere.json"], 64, ["two files"]),
    (["bench", "--compare", "nowhere.json", "none.json"], 1, ["nowhere.json"]),
    (["bench", "--devices", "cpu", "--json", "/proc/no/such/folder.json"], 1, ["no/such"]),
    (["report", "--output", "report.txt"], 64, [".md"]),
    (["report", "--compare", "a.json", "b.json"], 1, ["a.json"]),
  ]

  @Test(arguments: bad)
  func badInput(arguments: [String], status: Int32, words: [String]) throws {
    let scratch = try Scratch()
    let outcome = try Tool.run(arguments, in: scratch.folder)
    #expect(outcome.status == status, "\(outcome.errors)")
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)")
    for word in words { #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)") }
    #expect(outcome.output.isEmpty)
    #expect(try scratch.files().isEmpty)
  }

  @Test func anInterruptKeepsWhatThereIs() throws {
    let scratch = try Scratch()
    let running = try Tool.start(
      [
        "bench", "--devices", "cpu", "--suite", "step", "--rounds", "10000", "--json", "a.json",
      ],
      in: scratch.folder)
    let deadline = ContinuousClock.now + .seconds(60)
    while !running.errors.contains("\nstep\n"), ContinuousClock.now < deadline { usleep(50_000) }
    usleep(500_000)
    kill(running.process.processIdentifier, SIGINT)
    let outcome = try running.finish()
    #expect(outcome.status == 130, "\(outcome.errors)")
    let report = try BenchReport.read(scratch.url("a.json"))
    #expect(report.isPartial && outcome.output.contains("partial: it was stopped"))
  }
}
