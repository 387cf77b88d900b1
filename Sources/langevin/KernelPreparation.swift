import Foundation
import Langevin
import LangevinMeasurement

/// Compiles what a run needs and a driver has not compiled yet, before the run.
enum KernelPreparation {
  /// Shows progress where it takes a while. Throws `KernelCompilation.Failure`, `Interrupted`.
  static func run(_ calls: Set<OperationCall>, on device: Device, _ display: inout ProgressDisplay) throws {
    guard let backend = device.backend as? OpenCLBackend else { return }
    let ready = backend.readyKernels
    let jobs = ready.missing(of: try backend.compileJobs(for: calls))
    guard !jobs.isEmpty else { return }
    let total = jobs.reduce(0) { $0 + $1.variantCount }
    let start = ContinuousClock.now
    defer { display.close() }
    do {
      let compilation = KernelCompilation(for: backend, executable: Tool.executable)
      let done = try compilation.run(jobs) { count in
        try Interrupt.check()
        // Kernels that the driver finds in its cache take less.
        if ContinuousClock.now - start > .milliseconds(700) {
          display.compiling(count, of: total, for: device.name)
        }
      }
      ready.add(done)
    } catch let failure as KernelCompilation.Failure {
      guard case .damagedCache(_, _, let fresh, _) = failure else { throw failure }
      display.close()
      Output.warning("\(failure)")
      // The driver reads the variable once, when it is loaded.
      Tool.restart(setting: "POCL_CACHE_DIR", to: fresh.path)
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
