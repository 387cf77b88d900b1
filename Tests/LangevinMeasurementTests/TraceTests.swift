import Foundation
import FoundationXML
import LangevinTensor
import Testing

@testable import LangevinMeasurement

/// The files that a profile is written to.
@Suite struct TraceTests {
  /// An event as a viewer reads it; times in nanoseconds.
  private struct Event {
    var name, category: String
    var process, thread: Int
    var start, end: Int
  }

  private func events(_ json: [UInt8]) throws -> (complete: [Event], counters: Int, processes: [String]) {
    let object = try #require(try JSONSerialization.jsonObject(with: Data(json)) as? [String: Any])
    let list = try #require(object["traceEvents"] as? [[String: Any]])
    var complete: [Event] = []
    var counters = 0
    var processes: [String] = []
    for event in list {
      let process = try #require(event["pid"] as? Int)
      let thread = try #require(event["tid"] as? Int)
      let name = try #require(event["name"] as? String)
      switch event["ph"] as? String {
      case "X":
        let start = try #require(event["ts"] as? NSNumber).doubleValue
        let duration = try #require(event["dur"] as? NSNumber).doubleValue
        #expect(start >= 0 && duration >= 0)
        complete.append(
          Event(
            name: name, category: try #require(event["cat"] as? String), process: process, thread: thread,
            start: Int((start * 1000).rounded()),
            end: Int((start * 1000).rounded() + (duration * 1000).rounded())))
      case "C": counters += 1
      case "M":
        #expect(name == "process_name")
        processes.append(try #require((event["args"] as? [String: Any])?["name"] as? String))
      default: Issue.record("an event of an unknown kind: \(event)")
      }
    }
    return (complete, counters, processes)
  }

  @Test(arguments: RecordedRun.all)
  func spansNestAndFillTheRun(run: RecordedRun) throws {
    let (events, counters, processes) = try events(Trace(run.recording).json)
    #expect(processes == ["host", run.device.name])
    #expect(counters == run.recording.kernels.count)

    // Each event of the host lies within the one that is open when it begins.
    let host = events.filter { $0.process == 1 && $0.thread == 1 }
      .enumerated().sorted {
        ($0.element.start, -$0.element.end, $0.offset) < ($1.element.start, -$1.element.end, $1.offset)
      }
      .map(\.element)
    var open: [Event] = []
    var deepest = 0
    for event in host {
      while let last = open.last, last.end <= event.start,
        !(last.start == event.start && last.end == event.end)
      {
        open.removeLast()
      }
      if let last = open.last {
        #expect(event.end <= last.end, "\(event) lies across the end of \(last)")
      }
      open.append(event)
      deepest = max(deepest, open.count)
    }
    #expect(deepest >= 6, "generation > step > denoise > network > block > layer > operation")

    let root = try #require(host.first)
    #expect(root.name == "generation")
    let steps = host.filter { $0.category == "stage" && $0.name.hasPrefix("step ") }
    #expect(steps.count == RecordedRun.steps)
    let tops = run.recording.topStages.map(\.name)
    let parts = host.filter { $0.category == "stage" && tops.contains($0.name) }
    let sum = parts.reduce(0) { $0 + $1.end - $1.start }
    #expect(abs(Double(sum) * 1e-9 / run.wall - 1) < 0.05, "\(Double(sum) * 1e-9) of \(run.wall) s")

    // Within a step: the network, the update and the check.
    for step in steps {
      let inner = host.filter {
        $0.category == "stage" && $0.start >= step.start && $0.end <= step.end && $0.name != step.name
      }
      #expect(inner.map(\.name) == ["denoise", "update", "check"])
      let covered = inner.reduce(0) { $0 + $1.end - $1.start }
      #expect(Double(covered) >= 0.95 * Double(step.end - step.start))
    }
    // Every kernel is on the device's track.
    #expect(events.filter { $0.process == 2 }.count == run.recording.kernels.count)
    for name in ["unet.conv_in", "conv2d 3x3", "text_encoder"] {
      #expect(host.contains { $0.name == name }, "no span \(name)")
    }
  }

  @Test func namesAreEscaped() throws {
    let span = HostSpan(kind: .stage, name: "a \"quoted\"\\\n\u{1}name µ", depth: 0, start: 1, end: 1_002)
    let recording = Recording(device: "none", kernels: [], transfers: [], spans: [span])
    let (events, _, _) = try events(Trace(recording).json)
    #expect(events.map(\.name) == [span.name])
    #expect(events[0].end - events[0].start == 1_001)
  }

  @Test(arguments: RecordedRun.all)
  func theRooflineIsAPictureWithEveryLongOperation(run: RecordedRun) throws {
    let profile = Profile(run.recording, ceilings: RecordedRun.ceilings)
    let svg = Roofline(profile, subtitle: "a < b & c").svg
    let names = Texts(svg)
    #expect(names.isWellFormed)
    #expect(names.texts.contains("a < b & c"))
    for row in profile.operations where row.share >= 0.01 {
      #expect(names.texts.contains(row.name), "\(row.name) is not named")
    }
  }

  /// Labels of a crowd of points lie neither over each other nor over a point.
  @Test func labelsDoNotOverlap() throws {
    let bounds = Box(x: 0, y: 0, width: 600, height: 400)
    var layout = LabelLayout(bounds: bounds, taken: [], segments: [])
    let centers = (0..<20).map { index in
      let (column, row) = (Double(index % 5), Double(index / 5))
      return Point(x: 250 + column * 14, y: 200 + row * 9)
    }
    for center in centers { layout.reserve(center, radius: 6) }
    var boxes: [Box] = []
    for center in centers {
      let found = layout.place(width: 80, height: 15, around: center, radius: 6)
      let place = try #require(found)
      #expect(bounds.contains(place.box))
      #expect(!boxes.contains { $0.overlaps(place.box) })
      #expect(!centers.contains { place.box.contains($0) })
      boxes.append(place.box)
    }
  }
}

/// The texts of an SVG picture, by an XML parser.
private final class Texts: NSObject, XMLParserDelegate {
  private(set) var texts: [String] = []
  private(set) var isWellFormed = false
  private var current: String?

  init(_ svg: String) {
    super.init()
    let parser = XMLParser(data: Data(svg.utf8))
    parser.delegate = self
    isWellFormed = parser.parse()
  }

  func parser(
    _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
    attributes: [String: String] = [:]
  ) { if name == "text" { current = "" } }

  func parser(_ parser: XMLParser, foundCharacters string: String) { current?.append(string) }

  func parser(
    _ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?
  ) {
    if name == "text", let text = current { texts.append(text) }
    if name == "text" { current = nil }
  }
}
