import ArgumentParser
import Foundation
import LangevinDoctor
import LangevinMeasurement

/// `langevin probe`: what is left to processes of their own, because a driver may crash.
struct Probe: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Asks the drivers one question; the answer is one line of JSON.", shouldDisplay: false)

  @Argument(help: "compile FOLDER, self-test DEVICE, or a provider and its question, such as opencl list.")
  var question: [String]

  func run() throws {
    guard let answer = ProbeQuestion(arguments: question)?.answer() else {
      throw ValidationError("no such question: \(question.joined(separator: " "))")
    }
    let line = try JSONEncoder().encode(answer)
    // Flushed before the drivers' own clean-up, which may crash.
    Output.result(String(decoding: line, as: UTF8.self))
  }
}
