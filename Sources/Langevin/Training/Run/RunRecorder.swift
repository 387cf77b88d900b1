/// Notes the course of a run in its folder: log.jsonl, TensorBoard's events and samples.
public struct RunRecorder: Sendable {
  private let run: RunFolder
  private let log: TrainingLog
  private let board: TensorBoardWriter

  /// Goes on after a step, or from the beginning where nil; what was noted of later steps is void. Throws `RunError`.
  public init(_ run: RunFolder, after step: Int?) throws {
    self.run = run
    log = try TrainingLog(run.log, after: step)
    board = try TensorBoardWriter(in: run.url, after: step)
  }

  /// The step that the run goes on after, where it was noted.
  public var last: LogEntry? { log.last }

  /// Notes a step. Throws `RunError.unwritable`.
  public func note(_ entry: LogEntry) throws {
    try log.append(entry)
    try board.write(entry.figures.map { ("train/\($0.name)", $0.value) }, step: entry.step)
  }

  /// Notes figures that are not of each step, as of validation, for TensorBoard alone. Throws `RunError.unwritable`.
  public func note(_ scalars: [(tag: String, value: Double)], step: Int) throws {
    try board.write(scalars, step: step)
  }

  /// Keeps what the model draws after a step. Throws `RunError.unwritable`.
  public func samples(_ picture: Picture, step: Int) throws {
    try RunError.writing {
      try picture.writePNG(to: run.samples(step: step))
      try board.write(picture, tag: "samples", step: step)
    }
  }
}
