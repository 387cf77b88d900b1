import Foundation
import Langevin
import Testing

@Suite struct TuneTests {
  /// Without another test's or the user's cache.
  private func environment(_ scratch: Scratch) -> [String: String] {
    ["XDG_CACHE_HOME": scratch.url("cache").path]
  }

  private func tuningFiles(_ scratch: Scratch) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: scratch.url("cache/langevin/tuning").path)
      .filter { $0.hasSuffix(".json") }
  }

  private struct Written: Decodable {
    struct Result: Decodable {
      var operation, shape, shipped, tuned: String
      var shippedSeconds, tunedSeconds: Double
      var isKnown: Bool
    }
    var device: String
    var results: [Result]
    var unrivalled, atCeiling, unreached: [String]
    var isPartial: Bool
    var shapes: Int { results.count + unrivalled.count + atCeiling.count + unreached.count }
  }

  @Test func tunesTheShippedModelWithinItsBudgetAndGoesOn() throws {
    let scratch = try Scratch()
    let arguments = try ["tune", "--device", Tool.pocl(), "--budget", "2", "--json", "found.json"]
    let first = try Tool.run(arguments, in: scratch.folder, environment: environment(scratch))
    #expect(first.status == 0, "\(first.errors)")
    #expect(first.output.contains("shipped ms") && first.output.contains("share"))
    #expect(first.output.contains("these kernels take"))
    #expect(first.errors.contains("% of the work"))
    #expect(try tuningFiles(scratch).count == 1)
    func written() throws -> Written {
      try JSONDecoder().decode(Written.self, from: Data(contentsOf: scratch.url("found.json")))
    }
    let found = try written()
    #expect(!found.isPartial && !found.results.isEmpty)
    #expect(found.results.allSatisfy { !$0.isKnown && $0.tunedSeconds <= $0.shippedSeconds })

    let second = try Tool.run(
      arguments + ["--quiet"], in: scratch.folder, environment: environment(scratch))
    #expect(second.status == 0 && second.errors.isEmpty, "\(second.errors)")
    let later = try written()
    #expect(later.results.filter(\.isKnown).map(\.shape) == found.results.map(\.shape))
    // A shape near the ceiling may reach it in one run only.
    #expect(later.shapes == found.shapes)

    // The tuned kernels draw a picture.
    let picture = try Tool.generate(
      ["--device", Tool.pocl(), "--steps", "1", "--output", "x.png"], in: scratch.folder,
      environment: environment(scratch))
    #expect(picture.status == 0 && picture.errors.isEmpty, "\(picture.errors)")
  }

  @Test func whatIsKeptIsListedAndForgotten() throws {
    let scratch = try Scratch()
    let pocl = try Tool.pocl()
    func run(_ arguments: [String]) throws -> Tool.Outcome {
      let outcome = try Tool.run(arguments, in: scratch.folder, environment: environment(scratch))
      #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
      return outcome
    }
    let before = try run(["tune", "--list"])
    #expect(before.output.isEmpty && before.errors.contains("nothing was tuned"))
    #expect(try !run(["devices"]).output.contains("tuned:"))

    _ = try run(["tune", "--device", pocl, "--budget", "2", "--quiet", "--json", "found.json"])
    let found = try JSONDecoder().decode(Written.self, from: Data(contentsOf: scratch.url("found.json")))
    let list = try run(["tune", "--list"]).output
    #expect(list.contains("Portable Computing Language") && list.contains("\(found.results.count) shape"))
    #expect(list.split(separator: "\n").filter { $0.contains("x  ") }.count >= found.results.count, "\(list)")
    for line in list.split(separator: "\n").dropFirst() { #expect(line.count <= 100, "\(line)") }
    #expect(try run(["devices"]).output.contains("tuned: \(found.results.count) shape"))

    let file = scratch.url("cache/langevin/tuning/\(try #require(try tuningFiles(scratch).first))")
    #expect(try run(["tune", "--reset", "--device", pocl]).output.contains("forgotten"))
    #expect(!FileManager.default.fileExists(atPath: file.path))
    #expect(try run(["tune", "--list"]).output.isEmpty)
    #expect(try run(["tune", "--reset", "--device", "all"]).errors.contains("nothing was tuned"))
  }

  @Test func anInterruptKeepsWhatWasFound() throws {
    let scratch = try Scratch()
    let running = try Tool.start(
      ["tune", "--device", Tool.pocl(), "--budget", "60"], in: scratch.folder,
      environment: environment(scratch))
    while running.process.isRunning, !running.errors.contains("2/") { Thread.sleep(forTimeInterval: 0.05) }
    running.process.interrupt()
    let outcome = try running.finish()
    #expect(outcome.status == 130, "\(outcome.errors)")
    #expect(
      outcome.errorLines.last?.contains("kept what was found for 1 shapes") == true, "\(outcome.errors)")
    #expect(outcome.output.contains("shipped ms"))
    #expect(try tuningFiles(scratch).count == 1)
  }

  private static let badInput: [(arguments: [String], status: Int32, word: String)] = [
    (["--device", "cpu"], 64, "has no kernel parameters"),
    (["--list", "--reset"], 64, "exclude"), (["--reset", "--device", "cpu"], 64, "has no kernel parameters"),
    (["--budget", "0"], 64, "--budget must be more than 0"),
    (["--budget", "nan"], 64, "--budget must be more than 0"),
    (["--model", "missing"], 1, "missing"),
    (["--json", "/proc/no/such/folder.json"], 1, "no/such"),
  ]

  @Test(arguments: badInput)
  func badInputIsOneLine(arguments: [String], status: Int32, word: String) throws {
    let scratch = try Scratch()
    let outcome = try Tool.run(["tune"] + arguments, in: scratch.folder, environment: environment(scratch))
    #expect(outcome.status == status, "\(outcome.errors)")
    #expect(outcome.errorLines.count == 1 && outcome.errors.contains(word), "\(outcome.errors)")
    #expect(outcome.output.isEmpty)
  }

  @Test func aDamagedCacheIsAWarning() throws {
    let scratch = try Scratch()
    let arguments = try ["tune", "--device", Tool.pocl(), "--budget", "1", "--quiet"]
    _ = try Tool.run(arguments, in: scratch.folder, environment: environment(scratch))
    let name = try #require(try tuningFiles(scratch).first)
    try Data("{".utf8).write(to: scratch.url("cache/langevin/tuning/\(name)"))
    let outcome = try Tool.generate(
      ["--device", Tool.pocl(), "--steps", "1", "--output", "x.png"], in: scratch.folder,
      environment: environment(scratch))
    #expect(outcome.status == 0)
    #expect(outcome.errorLines.count == 1 && outcome.errors.contains("damaged"), "\(outcome.errors)")
  }
}
