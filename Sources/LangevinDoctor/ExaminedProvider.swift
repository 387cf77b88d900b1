import LangevinTensor

/// A provider that finds out what keeps its devices from working, for `langevin doctor`.
public protocol ExaminedProvider: BackendProvider {
  /// Every check of its drivers, caches and devices. What a driver could crash in is asked through the prober: a
  /// question of `["opencl", "list"]` reaches `answer` of the provider `opencl` as `["list"]`, in another process.
  func examine(_ prober: Prober) -> Diagnosis
  /// Answers in this process; nil where it is no question.
  func answer(_ question: [String]) -> ProbeAnswer?
}
