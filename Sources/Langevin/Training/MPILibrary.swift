import Foundation
import LangevinTensor

/// What an MPI library exports, found when the first rank asks for it. It is not linked, so that one process trains
/// where there is none.
///
/// Two families are known by their binary interfaces. Open MPI's handles are addresses of its own variables; those of
/// MPICH and its relatives (Intel MPI, MVAPICH, Cray) are numbers: MPICH's mpi.h, and its ABI initiative.
struct MPILibrary: Sendable {
  /// A communicator, a datatype or an error handler: an address, or a number in the lower half.
  typealias Handle = UInt
  typealias Counts = UnsafePointer<Int32>
  typealias Out = UnsafeMutablePointer<Int32>

  typealias Initialize =
    @convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, Int32, Out) -> Int32
  typealias Finalize = @convention(c) () -> Int32
  typealias Abort = @convention(c) (Handle, Int32) -> Int32
  typealias AskCommunicator = @convention(c) (Handle, Out) -> Int32
  typealias SetErrorHandler = @convention(c) (Handle, Handle) -> Int32
  typealias ErrorText = @convention(c) (Int32, UnsafeMutablePointer<CChar>, Out) -> Int32
  typealias Version = @convention(c) (UnsafeMutablePointer<CChar>, Out) -> Int32
  /// Send buffer, count, type; receive buffer, count, type; communicator, request.
  typealias StartGather =
    @convention(c) (
      UnsafeRawPointer?, Int32, Handle, UnsafeMutableRawPointer?, Int32, Handle, Handle,
      UnsafeMutablePointer<UInt>
    ) -> Int32
  /// Request, whether it is done, status.
  typealias Test = @convention(c) (UnsafeMutablePointer<UInt>, Out, UnsafeMutableRawPointer?) -> Int32
  /// Send buffer, counts, places, type; receive buffer, counts, places, type; communicator.
  typealias Exchange =
    @convention(c) (
      UnsafeRawPointer?, Counts, Counts, Handle, UnsafeMutableRawPointer?, Counts, Counts, Handle, Handle
    ) -> Int32
  /// Send buffer, count, type; receive buffer, counts, places, type; communicator.
  typealias Gather =
    @convention(c) (
      UnsafeRawPointer?, Int32, Handle, UnsafeMutableRawPointer?, Counts, Counts, Handle, Handle
    ) -> Int32

  let initialize: Initialize
  let finalize: Finalize
  let abort: Abort
  let rank: AskCommunicator
  let size: AskCommunicator
  let setErrorHandler: SetErrorHandler
  let errorText: ErrorText
  let startGather: StartGather
  let test: Test
  let exchange: Exchange
  let gather: Gather

  let world, float, byte, errorsReturn: Handle
  /// What stands for a send buffer whose numbers lie in the receive buffer, and for a status that nobody reads.
  let inPlace, ignoredStatus: UInt
  /// `Open MPI v4.1.4`.
  let version: String

  /// Opens the library that belongs to the launcher, or the one that LANGEVIN_MPI_LIBRARY names.
  ///
  /// Throws `MPIError.noLibrary` and `.unknownLibrary`.
  init(_ family: MPILauncher.Family, environment: [String: String]) throws {
    let chosen = environment["LANGEVIN_MPI_LIBRARY"].map { [$0] } ?? family.libraries
    var reasons: [String] = []
    var handle: UnsafeMutableRawPointer?
    for name in chosen where handle == nil {
      // Its components look for its symbols among all.
      handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL)
      if handle == nil { reasons.append(String(cString: dlerror())) }
    }
    guard let handle else {
      throw MPIError.noLibrary(reason: reasons.joined(separator: "; "), package: family.package)
    }
    func address(_ name: String) throws -> UnsafeMutableRawPointer {
      guard let symbol = dlsym(handle, name) else {
        throw MPIError.unknownLibrary(chosen.joined(separator: ", "), reason: "it has no \(name)")
      }
      return symbol
    }
    func function<Function>(_ name: String, as type: Function.Type = Function.self) throws -> Function {
      unsafeBitCast(try address(name), to: type)
    }
    initialize = try function("MPI_Init_thread")
    finalize = try function("MPI_Finalize")
    abort = try function("MPI_Abort")
    rank = try function("MPI_Comm_rank")
    size = try function("MPI_Comm_size")
    setErrorHandler = try function("MPI_Comm_set_errhandler")
    errorText = try function("MPI_Error_string")
    startGather = try function("MPI_Iallgather")
    test = try function("MPI_Test")
    exchange = try function("MPI_Alltoallv")
    gather = try function("MPI_Allgatherv")
    let ask: Version = try function("MPI_Get_library_version")
    version = Self.text(capacity: 8192) { ask($0, $1) }
    if dlsym(handle, "ompi_mpi_comm_world") != nil {
      world = UInt(bitPattern: try address("ompi_mpi_comm_world"))
      float = UInt(bitPattern: try address("ompi_mpi_float"))
      byte = UInt(bitPattern: try address("ompi_mpi_byte"))
      errorsReturn = UInt(bitPattern: try address("ompi_mpi_errors_return"))
      (inPlace, ignoredStatus) = (1, 0)
    } else if ["MPICH", "Intel", "MVAPICH"].contains(where: version.contains) {
      (world, float, byte) = (0x4400_0000, 0x4C00_040A, 0x4C00_010D)
      errorsReturn = 0x5400_0001
      (inPlace, ignoredStatus) = (UInt.max, 1)
    } else {
      throw MPIError.unknownLibrary(
        version.isEmpty ? chosen.joined(separator: ", ") : version,
        reason: "only Open MPI and the relatives of MPICH are supported")
    }
  }

  /// What a function writes into a buffer: its first line.
  private static func text(
    capacity: Int, _ write: (UnsafeMutablePointer<CChar>, Out) -> Int32
  ) -> String {
    var (buffer, length) = ([CChar](repeating: 0, count: capacity + 1), Int32(0))
    guard write(&buffer, &length) == 0 else { return "" }
    let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
    return String((line.split(separator: ",").first ?? "")).replacingOccurrences(of: "\t", with: " ")
      .printable
  }

  /// Throws `MPIError.call` where the code is none of success.
  func check(_ name: String, _ code: Int32) throws {
    guard code != 0 else { return }
    let text = Self.text(capacity: 1024) { errorText(code, $0, $1) }
    throw MPIError.call(name, code: code, text: text)
  }
}
