import Foundation
import Langevin

/// Shows where a run is: a bar on a terminal, now and then a line elsewhere.
struct ProgressDisplay {
  let isShown: Bool
  let isTerminal: Bool
  let count: Int
  /// How many pictures are computed at once.
  var batch = 1
  /// What a step is called.
  let unit: String
  private var stepCount = 0
  /// Seconds of the last steps.
  private var steady: [Double] = []
  private var lastLine = ContinuousClock.now
  private var barIsOpen = false
  /// What the bar says.
  private var bar = ""
  /// Lines of the picture that is right above the bar; nil for none.
  private var pictureRows: Int?
  /// Pictures of one number take each other's place on the terminal.
  private var pictureNumber = Int(getpid())

  /// `count`: how many pictures.
  init(isShown: Bool, count: Int, unit: String = "step") {
    self.isShown = isShown
    self.count = count
    self.unit = unit
    isTerminal = isatty(STDERR_FILENO) == 1
  }

  mutating func line(_ text: String) {
    guard isShown else { return }
    close()
    Output.note(text)
  }

  /// So many kernels are compiled.
  mutating func compiling(_ done: Int, of total: Int, for device: String) {
    guard isShown else { return }
    let line = "compiling kernels for \(device), once: \(done) of \(total)"
    if isTerminal {
      show(bar: line)
    } else if ContinuousClock.now - lastLine >= .seconds(1) {
      Output.note(line)
      lastLine = .now
    }
  }

  /// A step that took so many seconds is done.
  mutating func step(_ step: Int, of total: Int, image: Int, seconds: Double) {
    // The first step also warms caches.
    if stepCount == 1 { steady = [] }
    stepCount += 1
    steady = steady.suffix(19) + [seconds]
    guard isShown else { return }
    let pace = steady.reduce(0, +) / Double(steady.count)
    let together = min(batch, count - image)
    let batches = (count - image - together + batch - 1) / batch
    let left = pace * Double(total - step + batches * total)
    let pictures = together > 1 ? "pictures \(image + 1) to \(image + together)" : "picture \(image + 1)"
    let title = count > 1 ? "\(pictures) of \(count), \(unit)" : unit
    let figures = String(format: "%.2f s/%@, %@ left", pace, unit, TrainingProgress.duration(left))
    if isTerminal {
      let width = 24
      let done = step * width / max(total, 1)
      let bar = String(repeating: "#", count: done) + String(repeating: "-", count: width - done)
      show(bar: "\(title) \(step)/\(total) [\(bar)] \(figures)")
    } else if step == 1 || step == total || ContinuousClock.now - lastLine >= .seconds(1) {
      Output.note("\(title) \(step)/\(total), \(figures)")
      lastLine = .now
    }
  }

  /// Where a run on several devices is.
  mutating func together(_ progress: SharedProgress, isLast: Bool) {
    guard isShown else { return }
    if isTerminal {
      show(bar: progress.text)
    } else if isLast || ContinuousClock.now - lastLine >= .seconds(1) {
      Output.note(progress.text)
      lastLine = .now
    }
  }

  /// Shows a picture above the bar, in the place of the last one if nothing was written since.
  mutating func picture(_ picture: Picture, by graphics: TerminalGraphics) throws {
    guard isShown else { return }
    let rows = graphics.rows(for: picture)
    if pictureRows != rows {
      (pictureRows, pictureNumber) = (rows, pictureNumber + 1)
      // Room first: what scrolls while it is drawn would be drawn elsewhere.
      Output.picture("\r\u{1B}[K" + String(repeating: "\n", count: rows))
    }
    // The cursor goes up, is kept, and is brought back from wherever drawing leaves it.
    let drawing = try graphics.drawing(of: picture, rows: rows, number: pictureNumber)
    Output.picture("\r\u{1B}[K\u{1B}[\(rows)A\u{1B}7\(drawing)\u{1B}8\u{1B}[\(rows)B")
    if barIsOpen { Output.bar(bar) }
  }

  private mutating func show(bar text: String) {
    Output.bar(text)
    (bar, barIsOpen) = (text, true)
  }

  /// Ends the bar's line; what comes next stands below.
  mutating func close() {
    if barIsOpen { Output.endBar() }
    (barIsOpen, pictureRows) = (false, nil)
  }
}

/// Where each device of a run is that several share.
struct SharedProgress {
  private let names: [String]
  private let count: Int
  private let start = ContinuousClock.now
  private var finished = 0
  /// The picture that each device is at, and its step.
  private var places: [Int: (image: Int, step: Int, total: Int)] = [:]

  init(_ names: [String], count: Int) { (self.names, self.count) = (names, count) }

  mutating func step(_ step: Int, of total: Int, image: Int, on member: Int) {
    places[member] = (image, step, total)
  }

  mutating func finish(on member: Int) {
    finished += 1
    places[member] = nil
  }

  /// `1 of 4 pictures, cpu: 2, step 3/20, opencl:0: 3, step 7/20, 12 s left`.
  var text: String {
    let parts = places.sorted { $0.key < $1.key }.map {
      "\(names[$0.key]): \($0.value.image + 1), step \($0.value.step)/\($0.value.total)"
    }
    let steps = places.values.reduce(0) { $0 + Double($1.step) / Double(max($1.total, 1)) }
    let share = (Double(finished) + steps) / Double(count)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let left = share > 0 ? TrainingProgress.duration(seconds * max(1 - share, 0) / share) + " left" : ""
    return (["\(finished) of \(count) pictures"] + parts + [left]).filter { !$0.isEmpty }
      .joined(separator: ", ")
  }
}
