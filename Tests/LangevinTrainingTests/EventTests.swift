import Foundation
import LangevinJSON
import Testing

@testable import Langevin

/// The reader's side: records and the wire format taken apart again.
private struct EventReader {
  struct Event {
    var time = 0.0, step = 0
    var version: String?
    var isStart = false
    var scalars: [String: Float] = [:]
    var picture: (tag: String, width: Int, height: Int, png: [UInt8])?
  }

  private struct EndOfMessage: Error {}

  private enum Field {
    case integer(UInt64)
    case bytes([UInt8])
  }

  static func events(_ file: [UInt8]) throws -> [Event] {
    var rest = file[...]
    func take(_ count: Int) throws -> [UInt8] {
      try #require(rest.count >= count, "the file ends early")
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
    var events: [Event] = []
    while !rest.isEmpty {
      let length = try take(8)
      #expect(try number(take(4)) == UInt64(CRC32C.masked(length)))
      let payload = try take(Int(number(length)))
      #expect(try number(take(4)) == UInt64(CRC32C.masked(payload)))
      events.append(try event(payload))
    }
    return events
  }

  private static func number(_ bytes: [UInt8]) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  private static func fields(_ message: [UInt8]) throws -> [(number: Int, value: Field)] {
    var (rest, result) = (message[...], [(number: Int, value: Field)]())
    func varint() throws -> UInt64 {
      var (value, shift): (UInt64, UInt64) = (0, 0)
      while true {
        guard let byte = rest.popFirst() else { throw EndOfMessage() }
        value |= UInt64(byte & 0x7F) << shift
        if byte < 0x80 { return value }
        shift += 7
      }
    }
    while !rest.isEmpty {
      let key = try varint()
      let width = key & 7 == 1 ? 8 : key & 7 == 5 ? 4 : 0
      if key & 7 == 0 {
        result.append((Int(key >> 3), .integer(try varint())))
      } else {
        let count = width > 0 ? width : Int(try varint())
        try #require(rest.count >= count)
        let bytes = Array(rest.prefix(count))
        rest = rest.dropFirst(count)
        result.append((Int(key >> 3), width > 0 ? .integer(number(bytes)) : .bytes(bytes)))
      }
    }
    return result
  }

  private static func event(_ payload: [UInt8]) throws -> Event {
    var event = Event()
    for field in try fields(payload) {
      switch (field.number, field.value) {
      case (1, .integer(let bits)): event.time = Double(bitPattern: bits)
      case (2, .integer(let step)): event.step = Int(step)
      case (3, .bytes(let bytes)): event.version = String(decoding: bytes, as: UTF8.self)
      case (5, .bytes(let bytes)):
        for case (1, .bytes(let value)) in try fields(bytes) { try add(value, to: &event) }
      case (7, .bytes(let bytes)): event.isStart = bytes == [8, 1]
      default: Issue.record("field \(field.number)")
      }
    }
    return event
  }

  private static func add(_ value: [UInt8], to event: inout Event) throws {
    var tag = ""
    for field in try fields(value) {
      switch (field.number, field.value) {
      case (1, .bytes(let bytes)): tag = String(decoding: bytes, as: UTF8.self)
      case (2, .integer(let bits)): event.scalars[tag] = Float(bitPattern: UInt32(bits))
      case (4, .bytes(let bytes)):
        var (size, png) = ([0, 0, 0, 0], [UInt8]())
        for field in try fields(bytes) {
          switch field.value {
          case .integer(let value): size[field.number] = Int(value)
          case .bytes(let bytes): png = bytes
          }
        }
        #expect(size[3] == 3)
        event.picture = (tag, size[2], size[1], png)
      default: Issue.record("field \(field.number)")
      }
    }
  }
}

@Suite struct EventTests {
  let scratch: RunScratch

  init() throws { scratch = try RunScratch() }

  /// RFC 3720, appendix B.4, and the check value of the parameters' catalogue.
  @Test func checksumsAreThoseOfTheStandard() {
    for (bytes, checksum) in [
      ([UInt8](repeating: 0, count: 32), 0x8A91_36AA), ([UInt8](repeating: 255, count: 32), 0x62A8_AB43),
      (Array(0..<32), 0x46DD_794E), ((0..<32).reversed(), 0x113F_DB5C),
      (Array("123456789".utf8), 0xE306_9283),
      ([], 0),
    ] as [([UInt8], UInt32)] {
      #expect(CRC32C.checksum(bytes) == checksum)
    }
    #expect(CRC32C.masked([]) == 0xA282_EAD8)
  }

  /// Golden bytes: TensorBoard's own classes serialised the same events (Tests/Golden/make_events.py).
  @Test func eventsAreByteByByteTensorBoards() throws {
    let pictures = RunScratch.fixtures.appending(path: "pictures")
    let png = try RegularFile.contents(path: pictures.appending(path: "rgb.png").path)
    let golden = try RegularFile.contents(
      path: RunScratch.fixtures.appending(path: "events/golden.tfevents").path)
    let writer = try TensorBoardWriter(in: scratch.folder, after: nil) { 1_700_000_000.25 }
    for (step, loss) in [(1, 0.5), (2, 0), (300, -1e-30)] {
      try writer.write([("train/loss", loss), ("train/räte", 6e-4)], step: step)
    }
    try writer.write(.picture(tag: "samples", width: 9, height: 7, png: png), step: 300)
    let name = "events.out.tfevents.1700000000.langevin"
    #expect(try scratch.files() == [name])
    #expect(try scratch.bytes(name) == golden)
  }

  @Test func whatIsWrittenIsReadAgain() throws {
    let run = try RunFolder.create(scratch.url("run"), settings: .object([]))
    let picture = try Picture(width: 5, height: 3, pixels: (0..<45).map { UInt8($0 * 5) })
    let recorder = try RunRecorder(run, after: nil)
    for step in 1...3 { try recorder.note(LogTests.entry(step)) }
    try recorder.samples(picture, step: 3)
    let name = try #require(try scratch.files("run").first { $0.hasPrefix("events") })
    let events = try EventReader.events(scratch.bytes("run/\(name)"))
    #expect(events.map(\.step) == [0, 0, 1, 2, 3, 3])
    #expect(events[0].version == "brain.Event:2" && events[1].isStart)
    #expect(events.allSatisfy { abs($0.time - Date().timeIntervalSince1970) < 600 })
    #expect(events[3].scalars["train/loss"] == 0.5 && events[3].scalars["train/grad_norm"] == 1.5)
    #expect(Set(events[3].scalars.keys) == Set(LogTests.entry(2).figures.map { "train/\($0.name)" }))
    let shown = try #require(events[5].picture)
    #expect((shown.tag, shown.width, shown.height) == ("samples", 5, 3))
    try scratch.write(shown.png, to: "shown.png")
    #expect(try Picture.read(scratch.url("shown.png")).picture == picture)
    #expect(try Picture.read(scratch.url("run/samples/step-000003.png")).picture == picture)
    #expect(try TrainingLog.read(run.log) == (1...3).map(LogTests.entry))
  }

  @Test func aResumedRunsFileIsReadLastAndVoidsWhatWasGivenUp() throws {
    // The same second, a clock that goes back, and a file of another program.
    let times: [Double] = [1_700_000_000, 1_700_000_000, 5]
    try scratch.write([], to: "events.out.tfevents.1700000007.host.12.0")
    for (index, time) in times.enumerated() {
      let before = try scratch.files()
      let writer = try TensorBoardWriter(in: scratch.folder, after: index == 0 ? nil : index * 10) { time }
      try writer.write([("a", 1)], step: index * 10 + 1)
      let after = try scratch.files()
      #expect(after.dropLast() == before[...])
      let events = try EventReader.events(scratch.bytes(try #require(after.last)))
      #expect(events[1].isStart && events[1].step == (index == 0 ? 0 : index * 10 + 1))
    }
  }
}
