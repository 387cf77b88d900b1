import Foundation

/// The program that started this process along with others, as its environment variables tell.
public struct MPILauncher: Sendable, Hashable {
  /// Whose library belongs to it.
  enum Family: Sendable, Hashable {
    case openMPI, mpich

    /// Names that a system's loader may know it by, the likeliest first.
    var libraries: [String] {
      switch self {
      case .openMPI: ["libmpi.so.40"]
      // Debian's name, and everybody else's.
      case .mpich: ["libmpich.so.12", "libmpi.so.12"]
      }
    }

    /// The Debian package with it.
    var package: String {
      switch self {
      case .openMPI: "libopenmpi3"
      case .mpich: "libmpich12"
      }
    }
  }

  let family: Family
  /// This process's rank. Before MPI is started it decides who prints.
  public let rank: Int
  /// How many processes were started; nil where the launcher does not say.
  public let count: Int?

  /// The one that started this process; nil where none did, or this process alone.
  public static let current = MPILauncher(ProcessInfo.processInfo.environment)

  /// Reads what Open MPI's mpirun, MPICH's and Intel's mpiexec, and Slurm's srun with PMIx set.
  init?(_ environment: [String: String]) {
    func number(_ name: String) -> Int? { environment[name].flatMap { Int($0) } }
    if let count = number("OMPI_COMM_WORLD_SIZE"), let rank = number("OMPI_COMM_WORLD_RANK") {
      (family, self.rank, self.count) = (.openMPI, rank, count)
    } else if let count = number("PMI_SIZE"), let rank = number("PMI_RANK") {
      (family, self.rank, self.count) = (.mpich, rank, count)
    } else if let rank = number("PMIX_RANK") {
      (family, self.rank, count) = (.openMPI, rank, nil)
    } else {
      return nil
    }
    if count == 1 { return nil }
  }
}

/// Why MPI cannot be used.
public enum MPIError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The launcher's library is not installed.
  case noLibrary(reason: String, package: String)
  /// A library whose binary interface is not known.
  case unknownLibrary(String, reason: String)
  /// The library was not started by its own launcher: each process would train by itself.
  case wrongLauncher(library: String, size: Int, expected: Int)
  /// The library cannot be called from several threads.
  case noThreads(library: String)
  /// A function of the library failed.
  case call(String, code: Int32, text: String)
  /// MPI starts once in a process.
  case startedTwice
  /// More devices than processes on this machine that could use them.
  case idleDevices(devices: Int, processes: Int)

  /// One line that says what to do.
  public var description: String {
    switch self {
    case .noLibrary(let reason, let package):
      "this process is one of several, and the MPI library cannot be loaded: \(reason) (apt install \(package); "
        + "LANGEVIN_MPI_LIBRARY names another)"
    case .unknownLibrary(let library, let reason): "the MPI library \(library) is not known: \(reason)"
    case .wrongLauncher(let library, let size, let expected):
      "\(expected) processes were started, and \(library) sees \(size) of them; use the mpirun that belongs to the "
        + "library (LANGEVIN_MPI_LIBRARY names another library)"
    case .noThreads(let library): "\(library) was built without support for threads"
    case .call(let function, let code, let text): "\(function) failed with code \(code): \(text)"
    case .startedTwice: "MPI was started before in this process"
    case .idleDevices(let devices, let processes):
      "\(devices) devices for \(processes) processes on this machine: some would be idle; start as many processes "
        + "(mpirun -n \(devices)), or name fewer devices"
    }
  }
}
