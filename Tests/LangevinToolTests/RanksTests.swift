import Foundation
import Testing

/// Ranks in processes, as `mpirun` starts them, and what becomes of them when one fails.
@Suite(.serialized) struct RanksTests {
  private static let mpirun = URL(fileURLWithPath: "/usr/bin/mpirun.openmpi")
  private static let hasMPI = FileManager.default.isExecutableFile(atPath: mpirun.path)
  private static let mpich = URL(fileURLWithPath: "/usr/bin/mpiexec.mpich")
  private static let hasMPICH = FileManager.default.isExecutableFile(atPath: mpich.path)
  private static let missing: Comment = "mpirun is missing: apt install openmpi-bin"

  private func start(
    _ ranks: Int, _ arguments: [String], in scratch: Scratch, environment: [String: String] = [:]
  ) throws -> Tool.Running {
    try Tool.start(
      Self.mpirun,
      ["--allow-run-as-root", "--oversubscribe", "-n", "\(ranks)", Tool.executable.path, "ranks"] + arguments,
      in: scratch.folder, environment: environment, input: .nullDevice)
  }

  /// The words behind `rank N of M: ` in lines that contain a word.
  private func lines(_ text: String, with word: String) -> [Int: String] {
    var found: [Int: String] = [:]
    for line in text.split(separator: "\n") where line.contains(word) {
      guard let match = line.firstMatch(of: #/^rank (\d+) of \d+: (.*)$/#), let rank = Int(match.1) else {
        continue
      }
      found[rank] = String(match.2)
    }
    return found
  }

  private func errors(_ outcome: Tool.Outcome) -> [String] {
    // The launcher sends those a signal that have not ended.
    outcome.errorLines.filter { $0.hasPrefix("langevin: ") && !$0.contains("stopping after this step") }
  }

  /// The processes of the ranks, once all have started.
  private func processes(_ running: Tool.Running, ranks: Int) throws -> [Int: pid_t] {
    for _ in 0..<200 {
      let text = try String(contentsOf: running.logs.url("out"), encoding: .utf8)
      let found = lines(text, with: "process").compactMapValues { line in
        line.firstMatch(of: #/process (\d+)/#).flatMap { pid_t($0.1) }
      }
      if found.count == ranks { return found }
      Thread.sleep(forTimeInterval: 0.05)
    }
    throw Missing(what: "\(ranks) ranks: \(running.errors)")
  }

  private struct Missing: Error { let what: String }

  @Test(.enabled(if: hasMPI, missing), arguments: [2, 3, 4])
  func allRanksHaveTheSumInTheirOrder(ranks: Int) throws {
    let scratch = try Scratch()
    // More than one block for two and three ranks, with a remainder.
    let outcome = try start(ranks, ["--numbers", "400003", "--rounds", "2"], in: scratch).finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    let hashes = lines(outcome.output, with: "hash")
    #expect(Set(hashes.keys) == Set(0..<ranks), "\(outcome.output)")
    #expect(Set(hashes.values).count == 1, "\(outcome.output)")
    // The same whoever adds.
    let threads = try Tool.run(
      ["ranks", "--numbers", "400003", "--rounds", "1", "--threads", "\(ranks)"], in: scratch.folder)
    #expect(lines(threads.output, with: "hash") == hashes, "\(threads.output) \(threads.errors)")
  }

  @Test(.enabled(if: hasMPICH, "MPICH is missing: apt install mpich"))
  func ranksOfMPICHAddAndFailAsWell() throws {
    let scratch = try Scratch()
    func start(_ arguments: [String]) throws -> Tool.Outcome {
      let ranks = ["-n", "3", Tool.executable.path, "ranks"]
      return try Tool.start(
        Self.mpich, ranks + arguments, in: scratch.folder, input: .nullDevice
      ).finish()
    }
    let sums = try start(["--numbers", "400003", "--rounds", "2"])
    #expect(sums.status == 0, "\(sums.errors)")
    let hashes = lines(sums.output, with: "hash")
    #expect(hashes.count == 3 && Set(hashes.values).count == 1, "\(sums.output)")
    let failure = try start(["--numbers", "10", "--failing-rank", "1"])
    #expect(failure.status == 1)
    #expect(errors(failure) == ["langevin: error: rank 1 of 3: told to fail"], "\(failure.errors)")
  }

  @Test(.enabled(if: hasMPI && hasMPICH, "mpirun or MPICH is missing: apt install openmpi-bin mpich"))
  func anotherLaunchersLibraryIsRefused() throws {
    let scratch = try Scratch()
    let mpich = ["LANGEVIN_MPI_LIBRARY": "libmpich.so.12"]
    let outcome = try start(2, ["--numbers", "10"], in: scratch, environment: mpich).finish()
    #expect(outcome.status == 1)
    #expect(errors(outcome).count == 1 && outcome.errors.contains("2 processes were started"))
  }

  @Test(.enabled(if: hasMPI, missing)) func eachRankUsesItsOwnCores() throws {
    let scratch = try Scratch()
    let cores = ProcessInfo.processInfo.activeProcessorCount
    let outcome = try start(2, ["--numbers", "10"], in: scratch).finish()
    let masks = lines(outcome.output, with: "cores").values.map { line in
      Set(line.split(separator: " ").last?.split(separator: ",").map(String.init) ?? [])
    }
    try #require(masks.count == 2, "\(outcome.output) \(outcome.errors)")
    if cores > 1 { #expect(masks[0].isDisjoint(with: masks[1]), "\(outcome.output)") }
    #expect(masks.allSatisfy { !$0.isEmpty })
  }

  @Test(.enabled(if: hasMPI, missing)) func aRankThatFailsIsNamedOnce() throws {
    let scratch = try Scratch()
    let start = ContinuousClock.now
    let outcome = try self.start(3, ["--numbers", "10", "--failing-rank", "1"], in: scratch).finish()
    #expect(ContinuousClock.now - start < .seconds(10))
    #expect(outcome.status == 1)
    #expect(errors(outcome) == ["langevin: error: rank 1 of 3: told to fail"], "\(outcome.errors)")
    #expect(!outcome.output.contains("right"))
  }

  @Test(.enabled(if: hasMPI, missing)) func aRankThatEndsBeforeTheOthersIsNamed() throws {
    let scratch = try Scratch()
    let outcome = try start(3, ["--numbers", "10", "--early-rank", "2"], in: scratch).finish()
    #expect(outcome.status == 1)
    #expect(
      errors(outcome) == ["langevin: error: rank 2 of 3: it ended before the others"], "\(outcome.errors)")
  }

  @Test(.enabled(if: hasMPI, missing)) func sumsOfDifferentLengthsAreRefused() throws {
    let scratch = try Scratch()
    let outcome = try start(2, ["--numbers", "10", "--longer-rank", "1"], in: scratch).finish()
    #expect(outcome.status == 1)
    #expect(
      errors(outcome) == ["langevin: error: the ranks add different numbers of values: 10, 11"],
      "\(outcome.errors)")
  }

  @Test(.enabled(if: hasMPI, missing), arguments: [0, 1])
  func aRankThatIsKilledEndsAllWithinTenSeconds(victim: Int) throws {
    let scratch = try Scratch()
    let running = try start(
      3, ["--numbers", "1000", "--rounds", "100000", "--pause", "0.01"], in: scratch)
    let processes = try processes(running, ranks: 3)
    Thread.sleep(forTimeInterval: 0.3)
    let start = ContinuousClock.now
    kill(try #require(processes[victim]), SIGKILL)
    let outcome = try running.finish()
    #expect(ContinuousClock.now - start < .seconds(10))
    #expect(outcome.status != 0)
    #expect(outcome.errors.contains("signal 9"), "\(outcome.errors)")
    expectEnd(of: processes, since: start)
  }

  @Test(.enabled(if: hasMPI, missing)) func launchersDeathEndsAllWithinTenSeconds() throws {
    let scratch = try Scratch()
    let running = try start(
      2, ["--numbers", "1000", "--rounds", "100000", "--pause", "0.01"], in: scratch)
    let processes = try processes(running, ranks: 2)
    kill(running.process.processIdentifier, SIGKILL)
    running.process.waitUntilExit()
    expectEnd(of: processes, since: .now)
  }

  /// The launcher may be gone a moment before what it has killed.
  private func expectEnd(of processes: [Int: pid_t], since start: ContinuousClock.Instant) {
    while ContinuousClock.now - start < .seconds(10), processes.values.contains(where: isAlive) {
      Thread.sleep(forTimeInterval: 0.1)
    }
    for process in processes.values { #expect(!isAlive(process)) }
  }

  /// Not gone, and not a zombie that nobody has asked for.
  private func isAlive(_ process: pid_t) -> Bool {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else {
      return false
    }
    return text.split(separator: ")").last?.split(separator: " ").first != "Z"
  }

  @Test(.enabled(if: hasMPI, missing)) func aSignalToOneRankStopsAllInTheSameRound() throws {
    let scratch = try Scratch()
    let running = try start(
      3, ["--numbers", "1000", "--rounds", "100000", "--pause", "0.01"], in: scratch)
    let processes = try processes(running, ranks: 3)
    Thread.sleep(forTimeInterval: 0.3)
    kill(try #require(processes[2]), SIGTERM)
    let outcome = try running.finish()
    #expect(outcome.status == 130, "\(outcome.errors)")
    let stops = lines(outcome.output, with: "stopped")
    #expect(Set(stops.keys) == [0, 1, 2], "\(outcome.output)")
    #expect(Set(stops.values).count == 1, "\(outcome.output)")
    #expect(errors(outcome).filter { $0.contains("rounds are done") }.count == 1, "\(outcome.errors)")
  }

  @Test func withoutTheLibraryTheErrorSaysWhatToInstall() throws {
    let scratch = try Scratch()
    let launched = ["OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"]
    let outcome = try Tool.run(
      ["ranks"], in: scratch.folder,
      environment: launched.merging(["LANGEVIN_MPI_LIBRARY": "libnone.so.1"]) { $1 })
    #expect(outcome.status == 1)
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(outcome.errors.contains("apt install libopenmpi3") && outcome.errors.contains("libnone.so.1"))
    let other = try Tool.run(
      ["ranks"], in: scratch.folder,
      environment: launched.merging(["LANGEVIN_MPI_LIBRARY": "libm.so.6"]) { $1 })
    #expect(other.status == 1)
    #expect(
      other.errorLines == [
        "langevin: error: the MPI library libm.so.6 is not known: it has no MPI_Init_thread"
      ], "\(other.errors)")
  }

  @Test func oneProcessNeedsNoLibrary() throws {
    let scratch = try Scratch()
    let outcome = try Tool.run(
      ["ranks", "--numbers", "10"], in: scratch.folder,
      environment: ["LANGEVIN_MPI_LIBRARY": "libnone.so.1"])
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(lines(outcome.output, with: "hash").count == 1)
  }
}
