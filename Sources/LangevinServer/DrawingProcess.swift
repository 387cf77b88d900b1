import Foundation
import Langevin
import Synchronization

/// How a drawing process is set up: the first line that it reads.
struct DrawingSetup: Codable, Sendable {
  let served: ServedModels
  /// As `DeviceChoice` reads it.
  let device: String
  let version: String
}

/// What a drawing process is told, one JSON document a line.
enum DrawingCommand: Codable, Sendable {
  case draw([Order], number: Int)
  case cancel(number: Int)
}

/// What it answers. Each drawing ends with one of the last three.
enum DrawingAnswer: Codable, Sendable {
  case ready(device: String)
  case event(DrawingEvent, order: Int)
  case done
  case cancelled
  case failed(Failure)
}

/// The process in which a driver may crash: it draws what its parent sends through standard input, and answers on
/// standard output.
public enum DrawingProcess {
  /// Works until the parent closes standard input or is gone. Never returns.
  public static func run() -> Never {
    // The terminal's Ctrl-C goes to the parent too, which decides.
    signal(SIGINT, SIG_IGN)
    signal(SIGTERM, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
    // What a driver prints must not come between the answers.
    let answers = dup(STDOUT_FILENO)
    // A compiler that a driver starts may outlive this process; the parent shall see its end all the same.
    _ = fcntl(answers, F_SETFD, FD_CLOEXEC)
    dup2(STDERR_FILENO, STDOUT_FILENO)
    let lines = LineReader(STDIN_FILENO)
    func answer(_ answer: DrawingAnswer) {
      guard let line = try? JSONEncoder().encode(answer) + Data("\n".utf8),
        Descriptor.write(line, to: answers)
      else { _exit(0) }
    }
    guard let line = lines.next(), let setup = try? JSONDecoder().decode(DrawingSetup.self, from: line) else {
      _exit(2)
    }
    let studio: Studio
    do {
      guard let choice = DeviceChoice(setup.device) else {
        throw DeviceChoiceError.unknown(setup.device)
      }
      studio = Studio(Catalog(setup.served), on: try choice.open(), version: setup.version)
    } catch {
      answer(.failed(Failure("\(error)")))
      _exit(0)
    }
    answer(.ready(device: studio.device.label))

    let orders = Mailbox()
    Thread.detachNewThread {
      while let line = lines.next() {
        switch try? JSONDecoder().decode(DrawingCommand.self, from: line) {
        case .draw(let batch, let number): orders.put(batch, number)
        case .cancel(let number): orders.cancel(number)
        case nil: _exit(2)
        }
      }
      // Not `exit`: it would wait for the driver.
      _exit(0)
    }
    while true {
      let (batch, number) = orders.take()
      do {
        if orders.isCancelled(number) { throw CancellationError() }
        try studio.draw(batch) { event, order in
          if orders.isCancelled(number) { throw CancellationError() }
          answer(.event(event, order: order))
        }
        answer(.done)
      } catch is CancellationError {
        answer(.cancelled)
      } catch let failure as Failure {
        answer(.failed(failure))
      } catch {
        answer(.failed(Failure("\(error)")))
      }
    }
  }
}

/// Hands orders from the thread that reads to the one that draws.
final class Mailbox: Sendable {
  private struct State {
    var orders: [([Order], Int)] = []
    var cancelled = -1
  }
  private let state = Mutex(State())
  private let filled = DispatchSemaphore(value: 0)

  func put(_ batch: [Order], _ number: Int) {
    state.withLock { $0.orders.append((batch, number)) }
    filled.signal()
  }

  func take() -> ([Order], Int) {
    filled.wait()
    return state.withLock { $0.orders.removeFirst() }
  }

  /// Orders are numbered upwards, and cancelled one at a time.
  func cancel(_ number: Int) { state.withLock { $0.cancelled = max($0.cancelled, number) } }
  func isCancelled(_ number: Int) -> Bool { state.withLock { $0.cancelled >= number } }
}

/// The lines of a descriptor; for one thread at a time.
final class LineReader: Sendable {
  private let descriptor: Int32
  private let rest = Mutex(Data())

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// Without its end; nil where nothing more comes.
  func next() -> Data? {
    var buffer = rest.withLock { $0 }
    var searched = buffer.startIndex
    while true {
      if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        let line = Data(buffer[buffer.startIndex..<end])
        let left = Data(buffer[buffer.index(after: end)...])
        rest.withLock { $0 = left }
        return line
      }
      searched = buffer.endIndex
      var chunk = [UInt8](repeating: 0, count: 1 << 16)
      let count = read(descriptor, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return nil }
      buffer.append(contentsOf: chunk[..<count])
    }
  }
}

enum Descriptor {
  /// Writes all of it; false where nobody reads any more.
  static func write(_ data: Data, to descriptor: Int32) -> Bool {
    data.withUnsafeBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Foundation.write(
          descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return false }
        rest = rest.dropFirst(count)
      }
      return true
    }
  }
}
