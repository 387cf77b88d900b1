import Foundation
import Synchronization

/// Standard output and standard error, whatever they lead to: a file, a pipe that nobody reads, a full disk,
/// nothing at all.
enum StandardStreams {
  /// The first error of standard output, as errno has it; 0 for none.
  private static let outputError = Atomic<Int32>(0)

  /// Called first. No write may end the process by a signal, and no file that is opened later may take the
  /// number of a closed stream: results and warnings would be written into it.
  static func prepare() {
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
    for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO]
    where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
      // Opened the wrong way round: reading and writing fail as on a closed stream. The lowest free number is
      // the one that was closed.
      _ = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
  }

  /// Writes all of it; after a failure nothing more goes to standard output, which `outputFailure` says then.
  static func writeResult(_ text: String) {
    guard outputError.load(ordering: .relaxed) == 0 else { return }
    let code = write(text, to: STDOUT_FILENO)
    if code != 0 { outputError.store(code, ordering: .relaxed) }
  }

  /// Writes what it can. A message that cannot be shown is no reason to stop working.
  static func writeMessage(_ text: String) { _ = write(text, to: STDERR_FILENO) }

  /// Why results are lost; nil while none is.
  static var outputFailure: OutputFailure? {
    let code = outputError.load(ordering: .relaxed)
    return code == 0 ? nil : OutputFailure(code: code)
  }

  /// Returns errno, or 0.
  private static func write(_ text: String, to descriptor: Int32) -> Int32 {
    var text = text
    return text.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)[...]
      while !rest.isEmpty {
        let start = UnsafeRawBufferPointer(rebasing: rest).baseAddress
        let count = Foundation.write(descriptor, start, rest.count)
        if count >= 0 {
          rest = rest.dropFirst(count)
        } else if errno == EAGAIN {
          // Another process made the terminal or pipe non-blocking.
          var state = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
          poll(&state, 1, -1)
        } else if errno != EINTR {
          return errno
        }
      }
      return 0
    }
  }
}

/// Results could not be written to standard output.
struct OutputFailure: Error, CustomStringConvertible {
  /// As errno has it.
  let code: Int32
  /// Whether whoever read a pipe has read enough, as `head` does: no news to anybody.
  var isOfAClosedPipe: Bool { code == EPIPE }

  var description: String {
    code == EBADF
      ? "standard output is closed"
      : "standard output cannot be written: \(String(cString: strerror(code)))"
  }
}
