import Foundation
import LangevinJSON
import Testing

@testable import Langevin

@Suite struct LogTests {
  let scratch: RunScratch

  init() throws { scratch = try RunScratch() }

  static func entry(_ step: Int) -> LogEntry {
    LogEntry(
      step: step, samples: UInt64(step) * 64, loss: 1 / Double(step), rate: 6e-4, gradientNorm: 1.5,
      seconds: Double(step) * 2.25, samplesPerSecond: 28.5)
  }

  // MARK: log.jsonl

  @Test func aLineHoldsAStep() throws {
    let log = try TrainingLog(scratch.url("log.jsonl"), after: nil)
    var full = Self.entry(3)
    (full.gflops, full.memoryPeak, full.lossScale, full.skipped) = (142.5, 1 << 33, 65536, 2)
    full.more = [("loss_kl", 0.125)]
    var broken = Self.entry(4)
    broken.loss = .nan
    broken.gradientNorm = .infinity
    for entry in [full, broken] { try log.append(entry) }
    let text = String(decoding: try scratch.bytes("log.jsonl"), as: UTF8.self)
    let lines = [
      #"{"step":3,"samples":192,"loss":0.3333333333333333,"rate":0.0006,"grad_norm":1.5,"seconds":6.75,"#
        + #""samples_per_second":28.5,"gflops":142.5,"memory_peak":8589934592,"loss_scale":65536.0,"#
        + #""skipped":2,"loss_kl":0.125}"#,
      #"{"step":4,"samples":256,"loss":null,"rate":0.0006,"grad_norm":null,"seconds":9.0,"#
        + #""samples_per_second":28.5,"memory_peak":0,"skipped":0}"#,
    ]
    #expect(text == lines.joined(separator: "\n") + "\n")
    let read = try TrainingLog.read(scratch.url("log.jsonl"))
    #expect(read.count == 2 && read[0] == full && read[1].loss.isNaN)
  }

  @Test func aResumedRunsLogIsThatOfOneRun() throws {
    let url = scratch.url("log.jsonl")
    func append(_ steps: ClosedRange<Int>, after step: Int?) throws {
      let log = try TrainingLog(url, after: step)
      for step in steps { try log.append(Self.entry(step)) }
    }
    try append(1...5, after: nil)
    let whole = try scratch.bytes("log.jsonl")
    try append(4...5, after: 3)
    #expect(try scratch.bytes("log.jsonl") == whole)
    // Nothing lies beyond.
    try append(6...6, after: 5)
    #expect(try TrainingLog.read(url).map(\.step) == Array(1...6))
    // What a kill in the middle of a line, or a power cut, leaves behind.
    for tail in [
      Array(#"{"step":6,"samp"#.utf8), [0, 0, 0, 10], Array("{}\n".utf8), [10, 10], Array("]".utf8),
    ] {
      try scratch.write(whole + tail, to: "log.jsonl")
      _ = try TrainingLog(url, after: 5)
      #expect(try scratch.bytes("log.jsonl") == whole)
    }
    try append(1...1, after: nil)
    #expect(try TrainingLog.read(url).map(\.step) == [1])
    try append(1...2, after: 0)
    #expect(try TrainingLog.read(url).map(\.step) == [1, 2])
  }

  @Test func aLineThatIsNoStepIsNamed() throws {
    try scratch.write(Array("\(Self.entry(1).json.text)\n{\"step\":2}\n".utf8), to: "log.jsonl")
    let url = scratch.url("log.jsonl")
    #expect(throws: RunError.malformed(path: url.path, reason: "line 2 holds no step's figures")) {
      try TrainingLog.read(url)
    }
  }

  @Test func aLogThatCannotBeWrittenIsAnError() throws {
    let url = scratch.url("log.jsonl")
    try #require(symlink("/dev/full", url.path) == 0)
    let file = try AppendedFile(url)
    #expect(throws: RunError.unwritable(path: url.path, reason: "No space left on device")) {
      try file.append([1])
    }
    #expect(throws: RunError.self) { try TrainingLog(scratch.url("missing/log.jsonl"), after: nil) }
  }

  // MARK: train.json

  @Test func settingsAreWrittenForPeople() throws {
    let text = """
      {
        "steps": 12000,
        "unet": {
          "block_out_channels": [64, 128],
          "empty": {},
          "none": []
        },
        "prompts": [
          {
            "a\\"b": null
          },
          [
            1,
            [2]
          ]
        ]
      }
      """
    let json = try StrictJSON(parsing: Array(text.utf8))
    #expect(json.indentedText == text)
    let long = StrictJSON.strings([String](repeating: "lion with a crown", count: 9))
    #expect(long.indentedText.split(separator: "\n").count == 11)
    #expect(try StrictJSON(parsing: Array(long.indentedText.utf8)) == long)
  }

  // MARK: Pictures

  private func picture(_ width: Int, _ height: Int, _ value: UInt8) throws -> Picture {
    try Picture(width: width, height: height, pixels: [UInt8](repeating: value, count: width * height * 3))
  }

  @Test func aGridHoldsEveryPictureOnce() throws {
    let pictures = try (0..<5).map { try picture(3, 2, UInt8($0)) }
    let grid = try Picture.grid(pictures, columns: 2, margin: 1)
    #expect((grid.width, grid.height) == (9, 10))
    let red = (0..<10).map { y in (0..<9).map { x in grid.pixels[(y * 9 + x) * 3] } }
    let blank = [UInt8](repeating: 255, count: 9)
    func row(_ a: UInt8, _ b: UInt8) -> [UInt8] { [255, a, a, a, 255, b, b, b, 255] }
    #expect(
      red == [
        blank, row(0, 1), row(0, 1), blank, row(2, 3), row(2, 3), blank, row(4, 255), row(4, 255), blank,
      ])
    // No more columns than pictures, and no margin.
    #expect(try Picture.grid([pictures[3]], columns: 8, margin: 0) == pictures[3])
    for (pictures, columns) in [
      ([], 2), (pictures, 0), (pictures + [try picture(2, 3, 0)], 2),
    ] as [([Picture], Int)] {
      #expect(throws: ImageError.self) { try Picture.grid(pictures, columns: columns) }
    }
  }

  // MARK: Progress

  @Test func aLineSaysWhereTheRunIs() {
    var progress = TrainingProgress(total: 1000)
    #expect(progress.line() == "step 0/1000" && progress.secondsLeft == nil && progress.loss == nil)
    // The first step compiles kernels, and counts until there is another.
    progress.record(step: 1, loss: 1, rate: 2e-6, samples: 64, seconds: 30, flops: 3e11)
    #expect(
      progress.line() == "step 1/1000 loss 1.0000, rate 2.00e-06, 2.1 samples/s, 10 GFLOP/s, 8:19:30 left")
    progress.record(step: 2, loss: 0.5, rate: 6e-4, samples: 64, seconds: 2, flops: 3e11)
    #expect(
      progress.line(barWidth: 10)
        == "step 2/1000 [----------] loss 0.7475, rate 6.00e-04, 32.0 samples/s, 150 GFLOP/s, 33:16 left")
    // The speed is that of the last steps alone.
    for step in 3...500 {
      progress.record(step: step, loss: 0.001, rate: 6e-4, samples: 64, seconds: 0.5, flops: 1e12)
    }
    progress.record(step: 500, loss: .nan, rate: 6e-4, samples: 64, seconds: 0.5, flops: 1e12)
    #expect(
      progress.line(barWidth: 10)
        == "step 500/1000 [#####-----] loss 1.001e-03, rate 6.00e-04, 128 samples/s, 2.0 TFLOP/s, 4:10 left")
  }

  @Test func whatIsNotKnownIsLeftOut() {
    var progress = TrainingProgress(total: 100, step: 40, secondsAllowed: 60)
    progress.record(step: 41, loss: 123.456, rate: 1e-3, samples: 1, seconds: 10)
    #expect(progress.line() == "step 41/100 loss 123.46, rate 1.00e-03, 0.1 samples/s, 0:50 left")
    progress.record(step: 100, loss: 123.456, rate: 1e-3, samples: 1, seconds: 10)
    #expect(progress.secondsLeft == 0)
  }
}
