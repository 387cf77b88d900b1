import Foundation
import Langevin
import LangevinMeasurement
import LangevinTensor

/// Compiles what a run needs and a driver has not compiled yet, before the run.
enum KernelPreparation {
  /// Shows progress where it takes a while. Throws `KernelCompilation.Failure`, `Interrupted`.
  ///
  /// - Returns: how many kernels were compiled.
  @discardableResult
  static func run(_ calls: Set<OperationCall>, on device: Device, _ display: inout ProgressDisplay) throws
    -> Int
  {
    guard let backend = device.backend as? any CompilingBackend else { return 0 }
    return try compile(calls, for: backend, &display)
  }

  private static func compile(
    _ calls: Set<OperationCall>, for backend: some CompilingBackend, _ display: inout ProgressDisplay
  ) throws -> Int {
    let jobs = try backend.missingJobs(for: calls)
    guard !jobs.isEmpty else { return 0 }
    let total = jobs.reduce(0) { $0 + $1.variantCount }
    let start = ContinuousClock.now
    defer { display.close() }
    do {
      let done = try KernelCompilation(executable: Tool.executable).run(jobs, for: backend) { count in
        try Interrupt.check()
        // Kernels that the driver finds in its cache take less.
        if ContinuousClock.now - start > .milliseconds(700) {
          display.compiling(count, of: total, for: backend.name)
        }
      }
      backend.remember(done)
      return done.reduce(0) { $0 + $1.variantCount }
    } catch let failure as KernelCompilation.Failure {
      guard case .damagedCache(let cache, _) = failure else { throw failure }
      display.close()
      Output.warning("\(failure)")
      // The driver reads the variable once, when it is loaded.
      Tool.restart(setting: cache.variable, to: cache.fresh.path)
      throw failure
    }
  }
}

/// This program.
enum Tool {
  static var executable: URL {
    Bundle.main.executableURL ?? URL(fileURLWithPath: CommandLine.arguments[0])
  }

  /// Begins anew with the same arguments and another environment. Returns only where that fails.
  static func restart(setting variable: String, to value: String) {
    setenv(variable, value, 1)
    let arguments = CommandLine.arguments.map { strdup($0) } + [nil]
    execv("/proc/self/exe", arguments)
    for argument in arguments { free(argument) }
  }
}
