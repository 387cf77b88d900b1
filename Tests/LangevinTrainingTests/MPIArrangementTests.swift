import Testing

@testable import Langevin

/// What is decided before and after MPI is called.
@Suite struct MPIArrangementTests {
  @Test func launchersAreKnownByTheirVariables() {
    let open = MPILauncher(["OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMIX_RANK": "3"])
    #expect(open?.family == .openMPI && open?.rank == 3 && open?.count == 4)
    let hydra = MPILauncher(["PMI_SIZE": "2", "PMI_RANK": "1"])
    #expect(hydra?.family == .mpich && hydra?.rank == 1 && hydra?.count == 2)
    let slurm = MPILauncher(["PMIX_RANK": "1"])
    #expect(slurm?.family == .openMPI && slurm?.rank == 1 && slurm?.count == nil)
    #expect(MPILauncher([:]) == nil)
    #expect(MPILauncher(["OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"]) == nil)
    #expect(MPILauncher(["OMPI_COMM_WORLD_SIZE": "two", "OMPI_COMM_WORLD_RANK": "0"]) == nil)
  }

  @Test func ranksThatShareAMaskDivideItsCores() {
    let machine = (0..<3).map { _ in CorePlace(machine: 1, cores: [0, 4, 1, 5, 2, 6, 3]) }
    #expect((0..<3).map { CorePlace.share(of: $0, among: machine) } == [[0, 4], [1, 5], [2, 6, 3]])
  }

  @Test func ranksThatTheLauncherBoundKeepTheirCores() {
    let bound = [[0, 2], [1, 3]].map { CorePlace(machine: 1, cores: $0) }
    #expect((0..<2).map { CorePlace.share(of: $0, among: bound) } == [[0, 2], [1, 3]])
    // Two on each of two sockets.
    let sockets = [[0, 1], [2, 3], [0, 1], [2, 3]].map { CorePlace(machine: 1, cores: $0) }
    #expect((0..<4).map { CorePlace.share(of: $0, among: sockets) } == [[0], [2], [1], [3]])
  }

  @Test func otherMachinesCoresAreTheirOwn() {
    let places = [1, 2, 1].map { CorePlace(machine: $0, cores: [0, 1]) }
    #expect((0..<3).map { CorePlace.share(of: $0, among: places) } == [[0], [0, 1], [1]])
  }

  @Test func moreRanksThanCoresTakeTurns() {
    let places = (0..<5).map { _ in CorePlace(machine: 1, cores: [3, 7]) }
    #expect((0..<5).map { CorePlace.share(of: $0, among: places) } == [[3], [7], [3], [7], [3]])
  }

  @Test func aPlaceSurvivesItsJourney() {
    for cores in [[], [0], [1023, 0, 511], Array(0..<1024)] {
      let place = CorePlace(machine: 0xFEDC_BA98_7654_3210, cores: cores)
      #expect(CorePlace(bytes: place.bytes) == place)
    }
    #expect(CorePlace(bytes: [1, 2, 3]) == nil)
  }

  @Test func aMessageSurvivesItsJourney() {
    let messages: [MPI.Message] = [.numbers(0), .numbers(1 << 40), .failure("größer als der Rest"), .end]
    for message in messages {
      #expect(message.bytes.count == MPI.Message.size)
      #expect(MPI.Message(bytes: message.bytes) == message)
    }
    let long = MPI.Message.failure(String(repeating: "x", count: 5000))
    #expect(MPI.Message(bytes: long.bytes) == .failure(String(repeating: "x", count: MPI.Message.size - 8)))
  }
}
