import ArgumentParser
import Foundation
import LangevinMeasurement

/// `langevin probe`: what is left to processes of their own, because a driver may crash.
struct Probe: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Asks the drivers one question; the answer is one line of JSON.", shouldDisplay: false)

  @Argument(help: "load LIBRARY, list, device NUMBER, or compile FOLDER.")
  var question: [String]

  func run() throws {
    guard let question = ProbeQuestion(arguments: question) else {
      throw ValidationError("no such question: \(question.joined(separator: " "))")
    }
    let answer = try JSONEncoder().encode(question.answer())
    // Flushed before the drivers' own clean-up, which may crash.
    Output.result(String(decoding: answer, as: UTF8.self))
  }
}
