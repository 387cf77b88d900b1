import Foundation

/// A backend whose driver compiles a kernel at its first use, which takes long enough to be done ahead.
public protocol CompilingBackend: Backend {
  /// Kernels that are compiled together.
  associatedtype Job: CompilationJob

  /// What compiles the kernels of these calls that are not known to be compiled, the longest first. Throws
  /// `TensorError`.
  func missingJobs(for calls: Set<OperationCall>) throws -> [Job]
  /// Compiles a job's kernels, and runs each once: some drivers compile no sooner. Throws `TensorError`.
  func compile(_ job: Job) throws
  /// Notes for later processes that the jobs' kernels are compiled.
  func remember(_ done: [Job])
  /// The cache that the driver keeps by itself under this environment; nil where none is known.
  func driverCache(in environment: [String: String]) -> DriverCacheFolder?
}

/// A part of what is to be compiled. It goes to another process as JSON.
public protocol CompilationJob: Sendable, Codable {
  /// The program's name, with the compiler's options after it.
  var program: String { get }
  /// How many kernels it has.
  var variantCount: Int { get }
}

/// Where a driver keeps the kernels that it has compiled.
public struct DriverCacheFolder: Sendable, Hashable {
  /// The driver's name.
  public var driver: String
  /// The variable of the environment that names another folder.
  public var variable: String
  /// Where the kernels lie.
  public var folder: URL
  /// A folder of ours, to be used where something in `folder` makes the driver crash.
  public var fresh: URL

  /// See the properties.
  public init(driver: String, variable: String, folder: URL, fresh: URL) {
    (self.driver, self.variable, self.folder, self.fresh) = (driver, variable, folder, fresh)
  }
}
