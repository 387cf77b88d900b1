import CVectorMath

/// The processor's cores that this process computes on.
public enum Cores {
  /// Those that this thread's affinity mask allows, by their numbers in the system; none where the system does not say,
  /// as on machines of more than 1,024.
  public static var allowed: [Int] {
    var cores = [Int32](repeating: 0, count: 1024)
    let count = vm_allowed_cores(&cores, Int32(cores.count))
    return cores.prefix(Int(count)).map { Int($0) }
  }

  /// Restricts this thread, and those that it starts from now on, to some of the cores, and returns whether the system
  /// allowed it. The CPU backend counts its cores when it first computes, so this comes before.
  public static func keep(to cores: [Int]) -> Bool {
    vm_keep_to_cores(cores.map { Int32($0) }, Int32(cores.count)) != 0
  }
}
