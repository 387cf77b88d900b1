import Foundation
import LangevinTraining

/// How a training run is spread: over processes that an MPI launcher started, or over devices of this process.
public enum Ranks {
  /// Runs the body once for each rank: on this thread where there is one in this process, else on a thread for each
  /// device. Returns what the first of them returned.
  ///
  /// Processes under a launcher take a device each, in turn on each machine. A rank opens its device within the body, when
  /// it has its share of the machine's cores.
  ///
  /// Throws `MPIError`, `CollectiveError.rankFailed` with the rank that failed, and what the body throws on all ranks.
  public static func run<Result: Sendable>(
    devices: [DeviceChoice], _ body: @escaping @Sendable (any Collective, DeviceChoice) throws -> Result
  ) throws -> Result {
    let devices = devices.isEmpty ? [.automatic] : devices
    if let launcher = MPILauncher.current {
      let mpi = try MPI.start(launcher, environment: ProcessInfo.processInfo.environment)
      return try mpi.run { mpi in
        guard devices.count <= mpi.localCount else {
          throw MPIError.idleDevices(devices: devices.count, processes: mpi.localCount)
        }
        return try body(mpi, devices[mpi.localRank % devices.count])
      }
    }
    guard devices.count > 1 else { return try body(Alone(), devices[0]) }
    return try ThreadCollective.run(devices.count) { try body($0, devices[$0.rank]) }[0]
  }

  /// Whether another process of this run tells the user why it failed. This one is silent then and ends with 0: the
  /// launcher kills all at the first that ends otherwise, be it before the other has told.
  ///
  /// Before MPI is started everyone tells. The first one goes before the others, which its launcher then ends within two
  /// seconds if it fails.
  public static func isToldElsewhere() -> Bool {
    guard let launcher = MPILauncher.current else { return false }
    if let teller = MPI.teller { return teller != launcher.rank }
    if launcher.rank > 0 { Thread.sleep(forTimeInterval: 3) }
    return false
  }
}
