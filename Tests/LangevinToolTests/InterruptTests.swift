import Foundation
import Testing

/// Ctrl-C ends a long command within two seconds, whatever kernel or compiler it waits for.
@Suite(.serialized) struct InterruptTests {
  private static let commands: [[String]] = [
    ["bench", "--devices", "cpu", "--suite", "ops"],
    ["bench", "--devices", "POCL", "--suite", "ops", "--op", "conv2d"],
    ["validate", "--device", "cpu", "--shapes", "model"],
    ["validate", "--device", "POCL", "--shapes", "edge"],
    ["tune", "--device", "POCL", "--budget", "60"],
    ["experiment", "--device", "POCL"],
  ]

  @Test(arguments: commands)
  func endsWithinTwoSeconds(command: [String]) throws {
    let scratch = try Scratch()
    let pocl = try Tool.pocl()
    let running = try Tool.start(
      command.map { $0 == "POCL" ? pocl : $0 }, in: scratch.folder,
      environment: ["XDG_CACHE_HOME": scratch.url("cache").path])
    Thread.sleep(forTimeInterval: 1.5)
    guard running.process.isRunning else {
      Issue.record("\(command) ended before it was stopped: \(running.errors)")
      return
    }
    let start = ContinuousClock.now
    running.process.interrupt()
    let outcome = try running.finish()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    #expect(seconds < 2, "\(command) took \(seconds) s: \(outcome.errors)")
    #expect(outcome.status == 130, "\(outcome.errors)")
    #expect(outcome.errorLines.last?.hasPrefix("langevin: stopped; ") == true, "\(outcome.errors)")
    #expect(!outcome.output.contains("passes"), "\(outcome.output)")
  }
}
