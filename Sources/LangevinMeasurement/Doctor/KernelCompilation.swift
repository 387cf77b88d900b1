import Foundation
import Langevin
import LangevinCPU
import LangevinDoctor
import LangevinTensor
import Synchronization

/// Compiles kernels before they are needed, in as many processes as there are cores: compilers inside drivers hold
/// locks that keep a second thread out, and one that crashes takes only its own process with it.
///
/// The processes share a folder. Each takes a job by creating its file, which only one can, and renames it when the
/// job is done.
public struct KernelCompilation: Sendable {
  private let prober: Prober
  private let environment: [String: String]

  /// What a driver did to the processes that compiled for it.
  public enum Failure: Error, CustomStringConvertible {
    /// It crashed on the files of its cache; with the fresh cache it works, and all is compiled there.
    case damagedCache(DriverCacheFolder, crash: String)
    /// It crashes whatever its cache holds.
    case crash(device: String, program: String, crash: String)

    /// One line, with what to do.
    public var description: String {
      switch self {
      case .damagedCache(let cache, let crash):
        "\(cache.driver) crashes on what is in its cache \(cache.folder.path) (\(crash)); using "
          + "\(cache.fresh.path) instead; run: rm -r \(cache.folder.path)"
      case .crash(let device, let program, let crash):
        "\(device): compiling the kernels of '\(program)': \(crash); `langevin doctor` says what to do"
      }
    }
  }

  /// Whose kernels are compiled, for the processes that do it. The jobs lie beside it.
  private struct Request: Codable {
    let device: String
    let kernels: String?
  }

  /// `executable` is the tool, which is run as `langevin probe compile …`.
  public init(executable: URL, environment: [String: String] = ProcessInfo.processInfo.environment) {
    self.environment = environment
    prober = Prober(executable: executable, environment: environment, patience: 900)
  }

  /// Runs the jobs. `progress` is told now and then how many kernels are compiled, and may throw to stop.
  ///
  /// A job whose kernels do not build counts as done: whoever needs them gets the compiler's words. So does one whose
  /// process could not be started or was killed. Throws `Failure`.
  ///
  /// - Returns: the jobs whose kernels are compiled.
  public func run<Backend: CompilingBackend>(
    _ jobs: [Backend.Job], for backend: Backend, progress: (Int) throws -> Void
  ) throws -> [Backend.Job] {
    func attempt(_ changes: [String: String]) throws -> Attempt<Backend.Job> {
      try self.attempt(jobs, for: backend, changes: changes, progress)
    }
    func failure(_ attempt: Attempt<Backend.Job>, _ crash: Prober.Failure) -> Failure {
      let program = attempt.interrupted.first?.program.split(separator: " ").first.map(String.init)
      return .crash(
        device: "\(backend.name) (\(backend.identity.title))", program: program ?? "?", crash: "\(crash)")
    }
    let first = try attempt([:])
    guard let crash = first.crash else { return first.done }
    guard let cache = backend.driverCache(in: environment) else {
      // Once more: the driver may have met another process at a bad moment.
      let second = try attempt([:])
      if let crash = second.crash { throw failure(second, crash) }
      return second.done
    }
    let change = [cache.variable: cache.fresh.path]
    // What lies there may be damaged too, and is ours.
    let isOwn = cache.fresh.standardizedFileURL.path == cache.folder.standardizedFileURL.path
    if isOwn { try? FileManager.default.removeItem(at: cache.fresh) }
    var second = try attempt(change)
    if second.crash != nil, !isOwn {
      try? FileManager.default.removeItem(at: cache.fresh)
      second = try attempt(change)
    }
    if let crash = second.crash { throw failure(second, crash) }
    if isOwn { return second.done }
    throw Failure.damagedCache(cache, crash: crash.short)
  }

  private struct Attempt<Job> {
    var done: [Job] = []
    var interrupted: [Job] = []
    var crash: Prober.Failure?
  }

  private func attempt<Backend: CompilingBackend>(
    _ jobs: [Backend.Job], for backend: Backend, changes: [String: String], _ progress: (Int) throws -> Void
  ) throws -> Attempt<Backend.Job> {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let request = Request(device: backend.name, kernels: backend.identity.kernels)
      try JSONEncoder().encode(request).write(
        to: folder.appendingPathComponent(KernelCompilation.request))
      try JSONEncoder().encode(jobs).write(to: folder.appendingPathComponent(KernelCompilation.jobs))
    } catch { return Attempt() }
    let crash = Mutex<Prober.Failure?>(nil)
    let group = DispatchGroup()
    for _ in 0..<min(jobs.count, max(1, min(CPUBackend.cores, 8))) {
      DispatchQueue.global().async(group: group) {
        do {
          _ = try prober.ask(["compile", folder.path], changes: changes)
        } catch {
          // A process that the system killed for want of memory says nothing about the driver.
          if let failure = error as? Prober.Failure, failure.isCrash {
            crash.withLock { $0 = $0 ?? failure }
          }
        }
      }
    }
    func names(_ state: State) -> [Int] {
      jobs.indices.filter { access(state.url($0, in: folder).path, F_OK) == 0 }
    }
    while group.wait(timeout: .now() + 0.03) == .timedOut {
      try progress(names(.done).reduce(0) { $0 + jobs[$1].variantCount })
    }
    return Attempt(
      done: names(.done).map { jobs[$0] }, interrupted: names(.taken).map { jobs[$0] },
      crash: crash.withLock { $0 })
  }

  private static let request = "request.json"
  private static let jobs = "jobs.json"

  private enum State: String {
    case taken, done, refused

    func url(_ job: Int, in folder: URL) -> URL { folder.appendingPathComponent("\(job).\(rawValue)") }
  }

  /// The other side: takes jobs until none is left. Returns what keeps it from any.
  static func work(in folder: URL) -> String? {
    do {
      let request = try JSONDecoder().decode(
        Request.self, from: Data(contentsOf: folder.appendingPathComponent(KernelCompilation.request)))
      guard let choice = DeviceChoice(request.device) else { return "there is no device \(request.device)" }
      let device = try choice.open(BackendOptions(kernels: request.kernels), fallback: false)
      guard let backend = device.backend as? any CompilingBackend else {
        return "\(request.device) compiles nothing"
      }
      try takeJobs(for: backend, in: folder)
      return nil
    } catch { return "\(error)" }
  }

  private static func takeJobs<Backend: CompilingBackend>(for backend: Backend, in folder: URL) throws {
    let jobs = try JSONDecoder().decode(
      [Backend.Job].self, from: Data(contentsOf: folder.appendingPathComponent(KernelCompilation.jobs)))
    for (index, job) in jobs.enumerated() {
      let taken = State.taken.url(index, in: folder).path
      let file = open(taken, O_CREAT | O_EXCL | O_WRONLY, 0o600)
      // Another process has it; where the folder is gone, nobody waits any more.
      guard file >= 0 else {
        if errno == EEXIST { continue }
        return
      }
      close(file)
      let state: State
      do {
        try backend.compile(job)
        state = .done
      } catch { state = .refused }
      rename(taken, state.url(index, in: folder).path)
    }
  }
}
