import Foundation
import LangevinCPU
import LangevinTensor
import LangevinTraining

/// Where a rank runs: the machine, and the cores that its affinity mask allows.
///
/// Launchers bind some ranks to a core, some to a socket and some to nothing. The CPU backend and the drivers of
/// processors start a thread for each core that they may use, so ranks that share a mask would take each other's.
struct CorePlace: Equatable {
  /// A hash of the kernel's boot: the same in all containers of a machine.
  var machine: UInt64
  /// In the order in which they are divided: cores that share a package or a physical core are neighbours.
  var cores: [Int]

  /// This thread's.
  static var current: CorePlace {
    let boot = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
    return CorePlace(machine: FNV.hash(boot.utf8), cores: ordered(Cores.allowed))
  }

  /// The cores of a rank: its own share where others of its machine have the same mask, else all that it has. Ranks
  /// take turns where they are more than the cores.
  static func share(of rank: Int, among places: [CorePlace]) -> [Int] {
    let cores = places[rank].cores
    let sharing = places.indices.filter { places[$0] == places[rank] }
    guard let index = sharing.firstIndex(of: rank), !cores.isEmpty else { return cores }
    guard cores.count >= sharing.count else { return [cores[index % cores.count]] }
    return Array(cores[RankOrder.part(of: cores.count, rank: index, count: sharing.count)])
  }

  /// Lets this thread, and those that it starts from now on, run on these cores only.
  static func keep(to cores: [Int]) {
    guard !cores.isEmpty, Cores.keep(to: cores) else { return }
    // PoCL counts the machine's cores, whatever the mask says. Releases 3 and 6 have these names for it.
    for name in ["POCL_MAX_PTHREAD_COUNT", "POCL_CPU_MAX_CU_COUNT"] { setenv(name, "\(cores.count)", 0) }
  }

  private static func ordered(_ cores: [Int]) -> [Int] {
    func number(_ core: Int, _ name: String) -> Int {
      let path = "/sys/devices/system/cpu/cpu\(core)/topology/\(name)"
      let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
      return Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
    }
    let places = cores.map { [number($0, "physical_package_id"), number($0, "core_id"), $0] }
    return places.sorted { $0.lexicographicallyPrecedes($1) }.map { $0[2] }
  }

  // MARK: Bytes

  /// The machine's hash, how many cores there are, and their numbers in two bytes each.
  var bytes: [UInt8] {
    let machine = (0..<8).map { UInt8(truncatingIfNeeded: self.machine >> (8 * $0)) }
    let numbers = ([cores.count] + cores).flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8 & 0xFF)] }
    return machine + numbers + [UInt8](repeating: 0, count: 2 * 1025 - numbers.count)
  }

  init(machine: UInt64, cores: [Int]) { (self.machine, self.cores) = (machine, cores) }

  init?(bytes: [UInt8]) {
    guard bytes.count == 8 + 2 * 1025 else { return nil }
    machine = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    let numbers: [Int] = stride(from: 8, to: bytes.count, by: 2).map { at in
      Int(bytes[at]) | Int(bytes[at + 1]) << 8
    }
    cores = Array(numbers[1...].prefix(numbers[0]))
  }
}
