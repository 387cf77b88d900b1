import Foundation
import LangevinJSON
import LangevinTensor
import Testing

@testable import Langevin

@Suite struct RunFolderTests {
  let scratch: RunScratch
  let settings = StrictJSON.object([StrictJSON.Member("steps", .integer(12))])
  let small = SmallRun()

  init() throws { scratch = try RunScratch() }

  private func create(_ name: String = "run") throws -> RunFolder {
    try RunFolder.create(scratch.url(name), settings: settings)
  }

  private func restored(_ run: RunFolder) throws -> RunFolder.Restored? {
    try run.latestState(fitting: small.fingerprint, on: small.device)
  }

  private func stateName(_ step: Int) -> String { "run/checkpoints/step-0000000\(step).safetensors" }

  // MARK: The folder

  @Test func aRunIsCreatedAndResumed() throws {
    let url = scratch.url("new/run")
    do {
      let run = try RunFolder.create(url, settings: settings)
      #expect(try run.settings() == settings)
      #expect(try restored(run) == nil)
    }
    #expect(try scratch.files("new/run") == [".lock", "train.json"])
    let run = try RunFolder.resume(url)
    #expect(try run.settings() == settings)
    let longer = StrictJSON.object([StrictJSON.Member("steps", .integer(15))])
    try run.write(settings: longer)
    #expect(try run.settings() == longer)
  }

  @Test func aFolderThatHoldsSomethingIsNotTaken() throws {
    try FileManager.default.createDirectory(at: scratch.url("run"), withIntermediateDirectories: false)
    _ = try create()
    let path = scratch.url("run").path
    let error = #expect(throws: RunError.notEmpty(path: path)) { try create() }
    #expect(try #require(error).description.contains("langevin train resume \(path)"))
    try scratch.write([1], to: "file")
    #expect(throws: RunError.self) { try create("file") }
    #expect(throws: RunError.self) { try create("file/run") }
    #expect(try scratch.files() == ["file", "run"])
  }

  @Test func nothingIsResumedWhereThereIsNoRun() throws {
    for name in ["missing", ""] {
      #expect(throws: RunError.noRun(path: scratch.url(name).path)) {
        try RunFolder.resume(scratch.url(name))
      }
    }
    #expect(try scratch.files() == [])
    _ = try create()
    for text in ["{\"steps\": 12", "[]"] {
      try scratch.write(Array(text.utf8), to: "run/train.json")
      let error = #expect(throws: RunError.self) { try RunFolder.resume(scratch.url("run")) }
      #expect(try #require(error).description.contains("run/train.json: malformed: "))
    }
  }

  @Test func twoDoNotTrainInOneFolder() throws {
    let url = scratch.url("run")
    do {
      let run = try create()
      defer { withExtendedLifetime(run) {} }
      let error = #expect(throws: RunError.self) { try RunFolder.resume(url) }
      #expect(error == .locked(path: url.path, process: Int(getpid())))
      #expect(error?.description == "\(url.path): process \(getpid()) is training in it")
    }
    // The lock goes with its holder.
    _ = try RunFolder.resume(url)
    _ = try RunFolder.resume(url)
  }

  // MARK: States

  @Test func aStateComesBackBitByBit() throws {
    let run = try create()
    for step in 1...2 {
      try run.save(try small.state(step))
      let restored = try #require(try restored(run))
      #expect(try restored.state.equals(small.state(step)) && restored.notices == [])
      #expect(try !restored.state.equals(small.state(step + 1)))
    }
    #expect(try small.state(1).lossScale == nil && small.state(2).lossScale == 65536)
  }

  @Test func theLastTwoStatesStayAndNothingElseIsTouched() throws {
    let run = try create()
    try run.save(try small.state(1))
    try scratch.write([1], to: "run/checkpoints/step-00000001.txt")
    for step in 2...4 { try run.save(try small.state(step)) }
    let others = ["step-00000001.txt"]
    #expect(try scratch.files("run/checkpoints") == others + names(3, 4))
    // Given up: the run goes on from an earlier state.
    try scratch.write([2], to: stateName(9))
    try run.save(try small.state(5))
    #expect(try scratch.files("run/checkpoints") == others + names(4, 5))
    // Saved once more.
    try run.save(try small.state(5))
    #expect(try scratch.files("run/checkpoints") == others + names(4, 5))
  }

  private func names(_ steps: Int...) -> [String] { steps.map { "step-0000000\($0).safetensors" } }

  @Test func aDamagedStateIsPassedOverAndSaidSo() throws {
    let run = try create()
    for step in 1...2 { try run.save(try small.state(step)) }
    let whole = try scratch.bytes(stateName(2))
    for length in [whole.count - 1, whole.count / 2, 300, 8, 7, 0] {
      try scratch.write(Array(whole.prefix(length)), to: stateName(2))
      let restored = try #require(try restored(run))
      #expect(restored.state.step == 1 && restored.notices.count == 1)
      let notice = try #require(restored.notices.first)
      let path = scratch.url(stateName(2)).path
      #expect(notice.hasPrefix("\(path): truncated: \(length) bytes of "), "\(notice)")
      #expect(notice.hasSuffix("; going on from the state of step 1"))
    }
    for (bytes, words) in [
      (whole + [0], "malformed"), ([UInt8](repeating: 0, count: 400), "malformed"),
      (try scratch.bytes(stateName(1)), "it is the state of step 1"),
    ] {
      try scratch.write(bytes, to: stateName(2))
      let restored = try #require(try restored(run))
      #expect(restored.state.step == 1 && restored.notices.count == 1)
      #expect(restored.notices[0].contains(words), "\(restored.notices)")
    }
    // What is whole is not blamed.
    try scratch.write(whole, to: stateName(2))
    #expect(try restored(run)?.notices == [])
    try scratch.write(Array(whole.dropLast()), to: stateName(2))
    try scratch.write([], to: stateName(1))
    let error = #expect(throws: RunError.self) { try restored(run) }
    let text = try #require(error).description
    #expect(
      text.contains("step-00000002") && text.contains("step-00000001") && !text.contains("\n"), "\(text)")
  }

  /// Wherever in the file it is, and however little of it: an older state takes its place, and where there is none it
  /// is told so. Blanks of the header mean nothing, so that the state is the same with others.
  @Test(arguments: 1...20 as ClosedRange<UInt64>) func aFlippedByteIsFound(seed: UInt64) throws {
    let run = try create()
    for step in 1...2 { try run.save(try small.state(step)) }
    #expect(try restored(run)?.notices == [])
    let whole = try scratch.bytes(stateName(2))
    let path = scratch.url(stateName(2)).path
    let start = 8 + whole.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    func draw(_ number: UInt8, below limit: Int) -> Int {
      Int(FNV.hash([number], seed: seed) % UInt64(limit))
    }
    for place in [draw(1, below: start), start + draw(2, below: whole.count - start)] {
      var bytes = whole
      bytes[place] ^= UInt8(1 + draw(3, below: 255))
      try scratch.write(bytes, to: stateName(2))
      let restored = try #require(try restored(run))
      if place < start, restored.notices.isEmpty {
        #expect(try restored.state.equals(small.state(2)), "byte \(place)")
        continue
      }
      #expect(restored.state.step == 1 && restored.notices.count == 1, "byte \(place)")
      let notice = try #require(restored.notices.first)
      #expect(notice.hasPrefix("\(path): ") && !notice.contains("\n"), "\(notice)")
      #expect(notice.hasSuffix("; going on from the state of step 1"), "\(notice)")
      if place >= start { #expect(notice.hasPrefix("\(path): damaged: "), "\(notice)") }
    }
    unlink(scratch.url(stateName(1)).path)
    let error = #expect(throws: RunError.self) { try restored(run) }
    let text = try #require(error).description
    #expect(text.contains("no state of this run can be used: \(path): damaged: "), "\(text)")
  }

  /// As they were written before there were checksums.
  @Test func aStateWithoutAChecksumIsReadWhereItsVersionHasNone() throws {
    let url = scratch.url("s.safetensors")
    let state = try small.state(2)
    try state.write(to: url)
    var metadata = try SafetensorsFile(url: url).metadata
    #expect(metadata.removeValue(forKey: "checksum") != nil)
    try SafetensorsWriter.write(state.tensors, metadata: metadata, to: url)
    #expect(throws: RunError.malformed(path: url.path, reason: "its checksum is missing")) {
      try RunState(url, on: small.device)
    }
    metadata["version"] = "1"
    try SafetensorsWriter.write(state.tensors, metadata: metadata, to: url)
    #expect(try RunState(url, on: small.device).equals(state))
  }

  @Test func aStateOfAnotherRunIsRefusedWithBothHashes() throws {
    let run = try create()
    for step in 1...2 { try run.save(try small.state(step)) }
    var other = small
    other.width = 4
    var renamed = small
    renamed.name = "unet/conv_out.weight"
    let path = scratch.url(stateName(2)).path
    for other in [other, renamed] {
      let (expected, found) = (other.fingerprint.architecture, small.fingerprint.architecture)
      #expect(expected != found)
      let error = #expect(throws: RunError.self) {
        try run.latestState(fitting: other.fingerprint, on: small.device)
      }
      #expect(error == .otherArchitecture(path: path, expected: expected, found: found))
      let text = try #require(error).description
      #expect(text.contains(expected) && text.contains(found))
    }
    other = small
    other.data = "data-2"
    #expect(throws: RunError.otherData(path: path, expected: "data-2", found: "data-1")) {
      try run.latestState(fitting: other.fingerprint, on: small.device)
    }
    other = small
    other.settings = "settings-2"
    #expect(throws: RunError.otherSettings(path: path, expected: "settings-2", found: "settings-1")) {
      try run.latestState(fitting: other.fingerprint, on: small.device)
    }
    // By the rule of older states they are the same.
    var former = other.fingerprint
    former.formerSettings = "settings-1"
    #expect(try run.latestState(fitting: former, on: small.device)?.state.step == 2)
  }

  @Test func whatIsNoStateIsMalformed() throws {
    let url = scratch.url("s.safetensors")
    let state = try small.state(2)
    try SafetensorsWriter.write(state.tensors, to: url)
    #expect(throws: RunError.malformed(path: url.path, reason: "it is no state of a training run")) {
      try RunState(url, on: small.device)
    }
    try state.write(to: url)
    let good = try SafetensorsFile(url: url).metadata
    for (key, value, words) in [
      ("version", "3", "its format has version 3; this program reads 1 and 2"),
      ("step", "-2", "its step is -2"), ("samples", "-1", "its samples is '-1'"),
      ("seed", nil, "its seed is missing"), ("loss_scale", "big", "its loss_scale is 'big'"),
      ("data", nil, "a hash is missing"), ("architecture", "0", "its tensors are not those of its hash, 0"),
    ] {
      var metadata = good
      metadata[key] = value
      try SafetensorsWriter.write(state.tensors, metadata: metadata, to: url)
      #expect(throws: RunError.malformed(path: url.path, reason: words)) {
        try RunState(url, on: small.device)
      }
    }
    try SafetensorsWriter.write(state.tensors, metadata: good, to: url)
    #expect(try RunState(url, on: small.device).equals(state))
    for tensor in [
      try Tensor([Float](repeating: 1, count: 6), [3, 2], on: small.device),
      try Tensor([Int32](repeating: 1, count: 4), [4], on: small.device),
    ] {
      var odd = state
      odd.tensors[0].tensor = tensor
      #expect(throws: RunError.self) { try odd.write(to: url) }
      #expect(try RunState(url, on: small.device).equals(state))
    }
  }

  // MARK: A full disk

  @Test func whereAStateCannotBeWrittenTheOlderStay() throws {
    let run = try create()
    for step in 1...2 { try run.save(try small.state(step)) }
    try #require(symlink("/dev/full", scratch.url(stateName(3)).path) == 0)
    let error = #expect(throws: RunError.self) { try run.save(try small.state(3)) }
    #expect(try #require(error).description.hasSuffix("cannot be written: No space left on device"))
    #expect(try scratch.files("run/checkpoints") == names(1, 2, 3))
    unlink(scratch.url(stateName(3)).path)
    #expect(try restored(run)?.state.equals(small.state(2)) == true)
  }

  /// On a file system of a mebibyte, which only the superuser makes.
  @Test(.enabled(if: geteuid() == 0)) func onAFullDiskTheOlderStatesAreIntact() throws {
    let point = scratch.url("small").path
    try FileManager.default.createDirectory(atPath: point, withIntermediateDirectories: false)
    func shell(_ command: String) throws -> Int32 {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      process.arguments = ["-c", command]
      try process.run()
      process.waitUntilExit()
      return process.terminationStatus
    }
    // A container's superuser may not be allowed to.
    guard try shell("mount -t tmpfs -o size=1m none '\(point)' 2> /dev/null") == 0 else { return }
    defer { _ = try? shell("umount -l '\(point)'") }
    let run = try create("small/run")
    let log = try TrainingLog(run.log, after: nil)
    var wide = small
    wide.width = 12_000
    for step in 1...2 { try run.save(try wide.state(step)) }
    let error = #expect(throws: RunError.self) { try run.save(try wide.state(3)) }
    let text = try #require(error).description
    #expect(text.hasSuffix("cannot be written: No space left on device"), "\(text)")
    #expect(try scratch.files("small/run/checkpoints") == names(1, 2))
    let restored = try #require(try run.latestState(fitting: wide.fingerprint, on: small.device))
    #expect(try restored.state.equals(wide.state(2)) && restored.notices == [])

    // The log ends with a whole line.
    var count = 0
    let refused = #expect(throws: RunError.self) {
      for step in 1...10_000 {
        try log.append(LogTests.entry(step))
        count = step
      }
    }
    #expect(
      try #require(refused).description.hasSuffix("log.jsonl: cannot be written: No space left on device"))
    #expect(try count > 100 && TrainingLog.read(run.log).map(\.step) == Array(1...count))
  }
}
