import Foundation
import Testing

@testable import LangevinServer

/// A script in place of the drawing process: it says when it starts and what it is sent, and does what the prompt of an
/// order says.
///
/// - `quick`: is done at once.
/// - `held`: answers when it is cancelled, with the number of the order alone.
/// - `late`: is done in the moment in which it is cancelled.
/// - `crash`: ends before it answers; `break`: after a step.
///
/// With a file `slow` it waits for a file `go` before it is ready; with one `deaf` it reads nothing afterwards.
struct FakeProcess {
  let folder: URL

  private static let script = #"""
    cd "$1"
    step='{"event":{"_0":{"step":{"_0":1,"of":2,"image":0}},"order":0}}'
    number_of() { number=${line##*\"number\":}; number=${number%%[!0-9]*}; }
    IFS= read -r line
    echo start >> log
    [ ! -e slow ] || while [ ! -e go ]; do sleep 0.01; done
    echo '{"ready":{"device":"fake"}}'
    [ ! -e deaf ] || { echo deaf >> log; kill -STOP $$; }
    while IFS= read -r line; do
      number_of
      case $line in
      '{"cancel"'*)
        echo "cancel $number" >> log
        [ "$number" = "$held" ] || continue
        held=
        if [ "$prompt" = late ]; then echo '{"done":{}}'; else echo '{"cancelled":{}}'; fi ;;
      '{"draw"'*)
        prompt=${line##*\"prompt\":\"}; prompt=${prompt%%\"*}
        echo "draw $prompt" >> log
        case $prompt in
        quick) echo "$step"; echo '{"done":{}}' ;;
        held | late) held=$number; echo "$step" ;;
        crash) kill -9 $$ ;;
        break) echo "$step"; kill -9 $$ ;;
        esac ;;
      esac
    done
    """#

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("langevin-fake-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try Self.script.write(to: folder.appendingPathComponent("fake.sh"), atomically: true, encoding: .utf8)
  }

  func remove() { try? FileManager.default.removeItem(at: folder) }

  /// Lines in the order in which they happened.
  var log: [String] {
    let text = try? String(contentsOf: folder.appendingPathComponent("log"), encoding: .utf8)
    return (text ?? "").split(separator: "\n").map(String.init)
  }

  func remove(_ name: String) { try? FileManager.default.removeItem(at: folder.appendingPathComponent(name)) }
  func touch(_ name: String) throws { try Data().write(to: folder.appendingPathComponent(name)) }

  func command(patience: Double = 900) -> DrawingProcessCommand {
    var command = DrawingProcessCommand(
      executable: URL(fileURLWithPath: "/bin/sh"),
      arguments: [folder.appendingPathComponent("fake.sh").path, folder.path])
    command.patience = patience
    return command
  }

  func engine(patience: Double = 900, metrics: Metrics = Metrics()) async throws -> ChildEngine {
    let setup = DrawingSetup(served: ServedModels(models: ["m"]), device: "cpu", version: "test")
    return try await ChildEngine(setup, command(patience: patience), metrics: metrics)
  }
}

/// Fails where `body` is not done in time, instead of waiting for ever.
func within<Result: Sendable>(
  _ seconds: Double, _ body: @escaping @Sendable () async throws -> Result
) async throws -> Result {
  try await withThrowingTaskGroup(of: Result.self) { group in
    group.addTask { try await body() }
    group.addTask {
      try await Task.sleep(for: .seconds(seconds))
      throw Client.Failed(reason: "not done within \(seconds) s")
    }
    defer { group.cancelAll() }
    return try #require(await group.next())
  }
}

/// Waits until something is so.
func until(_ condition: () async throws -> Bool) async throws {
  for _ in 0..<5000 {
    if try await condition() { return }
    try await Task.sleep(for: .milliseconds(2))
  }
  throw Client.Failed(reason: "it does not become so within 10 s")
}
