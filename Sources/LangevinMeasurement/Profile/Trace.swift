import LangevinTensor

/// A recording in the Chrome trace-event format, which Perfetto and chrome://tracing open.
///
/// The host's track nests generation > stage > step > layer > operation, the device's has the kernels, and a
/// counter the device's memory. Times are microseconds from the run's beginning.
/// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
public struct Trace: Sendable {
  /// A complete event (`"ph": "X"`).
  struct Event {
    var name: String
    var category: String
    var process: Int
    var thread: Int
    /// When it began, in `HostClock`'s nanoseconds.
    var start: UInt64
    var end: UInt64
    var arguments: [(String, String)] = []
  }

  private static let host = 1
  private static let device = 2
  private static let fallback = 3
  private let recording: Recording

  /// A trace of everything that was recorded.
  public init(_ recording: Recording) { self.recording = recording }

  /// The JSON text, a line for each event.
  public var json: [UInt8] {
    let origin = recording.spans.first?.start ?? 0
    var out = Output(origin: origin)
    out.metadata(Trace.host, "host")
    out.metadata(Trace.device, recording.device)
    if recording.kernels.contains(where: \.isFallback) { out.metadata(Trace.fallback, "fallback") }
    for event in hostEvents { out.add(event) }
    for kernel in recording.kernels {
      let record = kernel.record
      out.add(
        Event(
          name: record.kernel, category: "kernel", process: kernel.isFallback ? Trace.fallback : Trace.device,
          thread: 1, start: kernel.start, end: kernel.end,
          arguments: [
            ("operation", record.label), ("layer", record.path), ("variant", record.variant),
            ("inputs", record.inputs.map(\.description).joined(separator: " ")),
            ("output", record.output.description),
          ]))
      if !kernel.isFallback { out.counter(Trace.device, "memory", at: record.hostEnd, bytes: record.memory) }
    }
    return out.finished
  }

  /// Stages, layers, operations and copies, each within those that enclose it.
  private var hostEvents: [Event] {
    var events = recording.spans.map { span in
      Event(
        name: span.name.isEmpty ? "network" : span.name, category: span.kind.rawValue, process: Trace.host,
        thread: 1, start: span.start, end: span.end)
    }
    var last: (sequence: Int, isFallback: Bool)?
    for kernel in recording.kernels {
      let record = kernel.record
      if let last, last == (record.sequence, kernel.isFallback) {
        events[events.count - 1].end = record.hostEnd
        continue
      }
      last = (record.sequence, kernel.isFallback)
      events.append(
        Event(
          name: record.label, category: "operation", process: Trace.host, thread: 1,
          start: record.hostStart, end: record.hostEnd,
          arguments: [
            ("layer", record.path), ("inputs", record.inputs.map(\.description).joined(separator: " ")),
            ("output", record.output.description),
          ]))
    }
    // An upload within an operation would lie across its launches: copies have a thread of their own.
    events += recording.transfers.map {
      Event(
        name: $0.direction.rawValue, category: "copy", process: Trace.host, thread: 2, start: $0.hostStart,
        end: $0.hostEnd, arguments: [("bytes", "\($0.bytes)"), ("layer", $0.path)])
    }
    return events
  }

  /// Text of the file so far.
  private struct Output {
    let origin: UInt64
    private var text: [UInt8] = Array("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n".utf8)
    private var isFirst = true

    init(origin: UInt64) { self.origin = origin }

    /// The bytes of the whole file.
    var finished: [UInt8] { text + Array("\n]}\n".utf8) }

    mutating func metadata(_ process: Int, _ name: String) {
      line(
        "{\"ph\":\"M\",\"pid\":\(process),\"tid\":1,\"name\":\"process_name\",\"args\":{\"name\":\(quoted(name))}}"
      )
    }

    mutating func add(_ event: Event) {
      let arguments = event.arguments.map { "\(quoted($0.0)):\(quoted($0.1))" }.joined(separator: ",")
      line(
        "{\"ph\":\"X\",\"pid\":\(event.process),\"tid\":\(event.thread),\"cat\":\"\(event.category)\","
          + "\"name\":\(quoted(event.name)),\"ts\":\(microseconds(time(event.start))),"
          + "\"dur\":\(microseconds(event.end - event.start)),\"args\":{\(arguments)}}")
    }

    mutating func counter(_ process: Int, _ name: String, at time: UInt64, bytes: Int) {
      line(
        "{\"ph\":\"C\",\"pid\":\(process),\"tid\":1,\"name\":\(quoted(name)),\"ts\":\(microseconds(self.time(time))),"
          + "\"args\":{\"bytes\":\(bytes)}}")
    }

    private mutating func line(_ line: String) {
      if !isFirst { text += Array(",\n".utf8) }
      isFirst = false
      text += Array(line.utf8)
    }

    /// A kernel placed a little before the beginning counts as at it.
    private func time(_ value: UInt64) -> UInt64 { value > origin ? value - origin : 0 }

    /// Exact to the nanosecond, so that what nests still does.
    private func microseconds(_ nanoseconds: UInt64) -> String {
      let rest = String(nanoseconds % 1000)
      return "\(nanoseconds / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest
    }

    private func quoted(_ text: String) -> String {
      var result = "\""
      for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case _ where scalar.value < 0x20:
          let digits = String(scalar.value, radix: 16)
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
      }
      return result + "\""
    }
  }
}
