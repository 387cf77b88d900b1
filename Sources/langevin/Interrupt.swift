import Foundation
import Synchronization

/// The run was stopped by the user.
struct Interrupted: Error, CustomStringConvertible {
  /// What was finished before.
  var kept: [String] = []
  /// What became of the rest, where it is not about pictures.
  var reason: String?

  var description: String {
    if let reason { return "stopped; \(reason)" }
    return kept.isEmpty
      ? "stopped; nothing was finished, no file was written"
      : "stopped; kept \(kept.joined(separator: ", ")); the unfinished picture was discarded"
  }
}

/// Ctrl-C and SIGTERM: the first sets a flag that the next step looks at, the second ends the process at once.
enum Interrupt {
  private static let requested = Atomic(false)

  static func install() {
    // A first read here, as a global's initialisation is not for signal handlers.
    _ = requested.load(ordering: .relaxed)
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { number in
      // The second, of another kind than the first; it is delivered when this returns.
      if Interrupt.requested.exchange(true, ordering: .relaxed) {
        raise(number)
        return
      }
      let notice: StaticString = "\nlangevin: stopping after this step; once more stops at once\n"
      _ = write(STDERR_FILENO, notice.utf8Start, notice.utf8CodeUnitCount)
    }
    // After the first signal the default action is back.
    action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | Int32(SA_RESTART)
    var signals = sigset_t()
    sigemptyset(&signals)
    for signal in [SIGINT, SIGTERM] {
      sigaction(signal, &action, nil)
      sigaddset(&signals, signal)
    }
    // A parent's thread may have had them blocked, which is inherited.
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }

  /// Whether somebody writes the last results: the command itself, or the thread of `limit`.
  private static let isEnding = Atomic(false)
  /// Seconds from a signal to the end of the process, where `limit` was called.
  private static let grace = 1.0

  /// From here on a signal ends the process soon, whatever kernel, compiler or reference it waits for: where the
  /// command has not come to `settle` by then, `keep` writes what there is and says what became of it.
  static func limit(_ keep: @escaping @Sendable () throws -> Interrupted) {
    Thread.detachNewThread {
      while !isRequested { Thread.sleep(forTimeInterval: 0.02) }
      Thread.sleep(forTimeInterval: grace)
      guard !isEnding.exchange(true, ordering: .sequentiallyConsistent) else { return }
      do {
        let interrupted = try keep()
        Output.note("langevin: \(interrupted)".shortened())
      } catch {
        Output.error("\(error)")
        _exit(1)
      }
      // Not `exit`: it would wait for the driver.
      _exit(StandardStreams.outputFailure == nil ? 130 : 1)
    }
  }

  /// Called before the last results are written, which happens once. Does not return where `limit` writes them.
  static func settle() {
    while isEnding.exchange(true, ordering: .sequentiallyConsistent) { Thread.sleep(forTimeInterval: 1) }
  }

  /// Whether a signal has come.
  static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// Throws `Interrupted` once a signal has come, and `OutputFailure` once nobody gets the results.
  static func check() throws {
    if let failure = StandardStreams.outputFailure { throw failure }
    if requested.load(ordering: .relaxed) { throw Interrupted() }
  }
}
