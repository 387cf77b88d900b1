import COpenCL
import LangevinKernels

/// Whether kernels may reduce over subgroups: tried on the device, never read from its name.
enum Subgroups: Sendable, Hashable {
  case usable
  case unusable(reason: String)

  /// Work-items that share a row in the GPU kernels.
  static let items = 64

  /// What programs that use them are compiled with: the newest dialect of OpenCL C that the device claims.
  static func options(on device: DeviceHandle) -> String {
    let version = device.openCLVersion
    let dialect = version.major >= 3 ? " -cl-std=CL3.0" : version.major == 2 ? " -cl-std=CL2.0" : ""
    return "-DSUBGROUPS" + dialect
  }
}

extension OpenCLBackend {
  /// Whether the device's subgroups give right sums and maxima. The GPU kernels then reduce with them, else in
  /// local memory.
  public var subgroups: Bool { locked { $0.subgroups() == .usable } }
}

extension LaunchQueue {
  /// Compiles and runs `team_probe`.
  mutating func probeSubgroups() -> Subgroups {
    guard context.description.subgroups else { return .unusable(reason: "the device does not claim them") }
    let count = Subgroups.items
    do {
      var rows = [Float](repeating: -1, count: 8 * count)
      let storage = try pool.allocate(rows.count * 4)
      try launch(TeamProbeKernel(y: storage), .teamProbe(items: count), global: [count], local: [count])
      try rows.withUnsafeMutableBytes { try context.read(storage.memory.pointer, byteOffset: 0, into: $0) }
      if let problem = Subgroups.problem(with: rows, items: count) { return .unusable(reason: problem) }
      return .usable
    } catch {
      return .unusable(reason: "\(error)")
    }
  }
}

extension Subgroups {
  /// What is wrong with the rows that `team_probe` wrote; nil where they are right.
  static func problem(with rows: [Float], items: Int) -> String? {
    func row(_ index: Int) -> ArraySlice<Float> { rows[index * items..<(index + 1) * items] }
    let teams = zip(row(0), 1...items).reduce(into: [Float: [Float]]()) {
      $0[$1.0, default: []].append(Float($1.1))
    }
    guard teams.count < items else { return "a subgroup holds one work-item" }
    guard Set(teams.keys) == Set((0..<teams.count).map(Float.init)),
      row(1).allSatisfy({ $0 == Float(teams.count) })
    else { return "the subgroups are misnumbered" }
    for (team, values) in teams {
      let places = (0..<items).filter { rows[$0] == team }
      let members = Set(places.map { rows[2 * items + $0] })
      guard members == Set((0..<values.count).map(Float.init)),
        places.allSatisfy({ rows[3 * items + $0] == Float(values.count) })
      else { return "the members of a subgroup are misnumbered" }
      let (sum, maximum) = (values.reduce(0, +), values.max())
      guard places.allSatisfy({ rows[4 * items + $0] == sum && rows[5 * items + $0] == maximum }) else {
        return "a subgroup's sum or maximum is wrong"
      }
    }
    guard row(6).allSatisfy({ $0 == Float(items * (items + 1) / 2) }),
      row(7).allSatisfy({ $0 == Float(items) })
    else { return "sums or maxima over subgroups are wrong" }
    return nil
  }
}
