import Foundation
import LangevinJSON
import LangevinTensor

/// The folder in which a training run leaves its settings, figures, pictures, states and model. One process at a time
/// trains in it: the lock is held for as long as this lives.
public final class RunFolder: Sendable {
  /// Where it lies.
  public let url: URL
  private let lock: RunLock

  /// How many states are kept.
  public static let keptStates = 2

  private init(_ url: URL) throws {
    lock = try RunLock(url)
    self.url = url
  }

  /// Begins a run: makes the folder and writes its train.json.
  ///
  /// Throws `RunError`: `.notEmpty`, `.locked`, `.unwritable`.
  public static func create(_ url: URL, settings: StrictJSON) throws -> RunFolder {
    if access(url.path, F_OK) == 0 {
      guard try isEmpty(url) else { throw RunError.notEmpty(path: url.path) }
    } else {
      try RunError.writing { try OutputFile.makeFolder(url) }
    }
    let run = try RunFolder(url)
    // Another process may have begun a run and ended in between.
    guard try isEmpty(url) else { throw RunError.notEmpty(path: url.path) }
    try run.write(settings: settings)
    return run
  }

  /// Opens a run to go on with it.
  ///
  /// Throws `RunError`: `.noRun`, `.locked`, `.malformed` for a train.json that is no JSON object, `.unreadable`.
  public static func resume(_ url: URL) throws -> RunFolder {
    guard access(url.appendingPathComponent(settingsName).path, F_OK) == 0 else {
      throw RunError.noRun(path: url.path)
    }
    let run = try RunFolder(url)
    _ = try run.settings()
    return run
  }

  private static func isEmpty(_ url: URL) throws -> Bool {
    do {
      // A run that died before its first file leaves these.
      return try FileManager.default.contentsOfDirectory(atPath: url.path).allSatisfy {
        $0 == RunLock.name || $0.hasPrefix(".langevin-")
      }
    } catch {
      throw RunError.unreadable(path: url.path, reason: "it is no folder that can be listed")
    }
  }

  // MARK: What it holds

  private static let settingsName = "train.json"

  /// The figures of each step, one JSON object a line.
  public var log: URL { url.appendingPathComponent("log.jsonl") }
  /// The model in diffusers' or transformers' layout.
  public var model: URL { url.appendingPathComponent("model") }
  private var states: URL { url.appendingPathComponent("checkpoints") }

  /// The settings of the run: the object of train.json. Throws `RunError`.
  public func settings() throws -> StrictJSON { try Self.settings(of: url) }

  /// The settings of a run that is not opened. Throws `RunError`.
  public static func settings(of url: URL) throws -> StrictJSON {
    let file = url.appendingPathComponent(settingsName)
    guard access(file.path, F_OK) == 0 else { throw RunError.noRun(path: url.path) }
    return try readSettings(file)
  }

  /// The object of a file of settings. Throws `RunError`.
  public static func readSettings(_ file: URL) throws -> StrictJSON {
    let settings = try RunError.reading(file, JSONFile.read)
    guard case .object = settings else {
      throw RunError.malformed(path: file.path, reason: "it is no object")
    }
    return settings
  }

  /// Replaces train.json. Throws `RunError.unwritable`.
  public func write(settings: StrictJSON) throws {
    try write(Array((settings.indentedText + "\n").utf8), to: url.appendingPathComponent(Self.settingsName))
  }

  /// Where the pictures of a step lie.
  public func samples(step: Int) -> URL {
    url.appendingPathComponent("samples").appendingPathComponent(Self.name(step, digits: 6) + ".png")
  }

  private static func name(_ step: Int, digits: Int) -> String {
    let number = "\(step)"
    return "step-" + String(repeating: "0", count: max(digits - number.count, 0)) + number
  }

  private func write(_ bytes: [UInt8], to file: URL) throws {
    try RunError.writing { try bytes.withUnsafeBytes { try OutputFile.write($0, to: file) } }
  }

  // MARK: States

  /// Writes a state, whole or not at all. When it is complete, all but the last two are removed, and those of later
  /// steps, which were given up when the run was resumed from an earlier one.
  ///
  /// Throws `RunError.unwritable`; the states that were there are intact then.
  public func save(_ state: RunState) throws {
    // What is logged up to this step must outlive the machine as the state does.
    try Self.synchronize(log, missing: true)
    let file = states.appendingPathComponent(Self.name(state.step, digits: 8) + ".safetensors")
    try state.write(to: file)
    try Self.synchronize(states, missing: false)
    let files = try stateFiles()
    let kept = files.filter { $0.step <= state.step }.prefix(Self.keptStates)
    for (step, url) in files where !kept.contains(where: { $0.step == step }) {
      guard unlink(url.path) == 0 || errno == ENOENT else { throw Self.unwritable(url) }
    }
  }

  /// A state, and why newer ones could not be used.
  public struct Restored: Sendable {
    /// What the run goes on from.
    public let state: RunState
    /// To be shown: one line for each newer state that is damaged.
    public let notices: [String]
  }

  /// The newest state that is whole, loaded on a device; nil where none was written yet.
  ///
  /// A damaged state is passed over, which is told in `notices`. One of another run never is. Throws `RunError`:
  /// `.noUsableState` where all are damaged; `.otherArchitecture`, `.otherData`, `.otherSettings`; and what the device
  /// throws.
  public func latestState(fitting expected: RunFingerprint, on device: Device) throws -> Restored? {
    var reasons: [String] = []
    for (step, file) in try stateFiles() {
      let state: RunState
      do {
        state = try RunState(file, on: device)
        guard state.step == step else {
          throw RunError.malformed(path: file.path, reason: "it is the state of step \(state.step)")
        }
      } catch let error as RunError {
        reasons.append(error.description)
        continue
      }
      try Self.check(state.fingerprint, expected, path: file.path)
      return Restored(
        state: state, notices: reasons.map { "\($0); going on from the state of step \(step)" })
    }
    guard reasons.isEmpty else { throw RunError.noUsableState(path: url.path, reasons: reasons) }
    return nil
  }

  private static func check(_ found: RunFingerprint, _ expected: RunFingerprint, path: String) throws {
    guard found.architecture == expected.architecture else {
      throw RunError.otherArchitecture(
        path: path, expected: expected.architecture, found: found.architecture)
    }
    guard found.data == expected.data else {
      throw RunError.otherData(path: path, expected: expected.data, found: found.data)
    }
    guard [expected.settings, expected.formerSettings].contains(found.settings) else {
      throw RunError.otherSettings(path: path, expected: expected.settings, found: found.settings)
    }
  }

  /// The newest first.
  private func stateFiles() throws -> [(step: Int, url: URL)] {
    guard access(states.path, F_OK) == 0 else { return [] }
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: states.path)
    } catch {
      throw RunError.unreadable(path: states.path, reason: "it is no folder that can be listed")
    }
    let found = names.compactMap { name -> (step: Int, url: URL)? in
      guard let digits = name.wholeMatch(of: /step-([0-9]{8,18})\.safetensors/)?.1, let step = Int(digits)
      else { return nil }
      return (step, states.appendingPathComponent(name))
    }
    return found.sorted { $0.step > $1.step }
  }

  /// Has a file's bytes, or a folder's names, reach the disk.
  private static func synchronize(_ url: URL, missing isAllowed: Bool) throws {
    let descriptor = open(url.path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT, isAllowed { return }
      throw unwritable(url)
    }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 || [EINVAL, ENOTSUP, EROFS].contains(errno) else { throw unwritable(url) }
  }

  private static func unwritable(_ url: URL) -> RunError {
    .unwritable(path: url.path, reason: String(cString: strerror(errno)))
  }
}

/// Keeps other processes out of a run's folder. It is the kernel's lock of a file, which ends with the process.
private final class RunLock: Sendable {
  static let name = ".lock"
  private let descriptor: Int32

  /// Throws `RunError.locked`, `.unwritable`. A file system without locks keeps nobody out.
  init(_ folder: URL) throws {
    let path = folder.appendingPathComponent(Self.name).path
    // A file and not the folder, because network file systems lock only what can be written.
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw RunError.unwritable(path: folder.path, reason: String(cString: strerror(errno)))
    }
    self.descriptor = descriptor
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EINTR { continue }
      guard errno == EWOULDBLOCK else { break }
      var bytes = [UInt8](repeating: 0, count: 20)
      let count = pread(descriptor, &bytes, bytes.count, 0)
      let process = Int(String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self))
      throw RunError.locked(path: folder.path, process: process)
    }
    // For the message alone; that it cannot be written is no reason not to train.
    if ftruncate(descriptor, 0) == 0 {
      let text = "\(getpid())"
      _ = pwrite(descriptor, text, text.utf8.count, 0)
    }
  }

  deinit { close(descriptor) }
}
