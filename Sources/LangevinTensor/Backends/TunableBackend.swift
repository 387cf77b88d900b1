import Foundation

/// A backend whose kernels have parameters that change their speed and never their meaning.
public protocol TunableBackend: Backend {
  /// By what parameters are chosen.
  associatedtype Key: TunableKey
  /// What is chosen.
  associatedtype Parameters: TunableParameters

  /// By what the parameters of an operation are chosen; nil where its kernels have none.
  func tuningKey(_ operation: Operation, inputs: [TensorSpec], output: TensorSpec) -> Key?
  /// Everything worth trying on this device, the shipped parameters first.
  func tuningSpace(_ key: Key) -> [Parameters]
  /// What a key is launched with where no search has been.
  func shippedParameters(_ key: Key) -> Parameters
  /// What searches found on this device for the kernels as they are now.
  var tunedEntries: [Key: TuningFinding<Key, Parameters>] { get }
  /// Uses what a search found from now on, and stores it for later processes. Throws where it cannot be stored.
  func keep(_ entry: TuningFinding<Key, Parameters>) throws
  /// Runs `body` with every launch of the parameters' kernel made with them, and says what the compiler made of the
  /// kernel: nil where `body` launched none. One trial at a time.
  ///
  /// Throws what `body` throws, and `TensorError.deviceFailure` where the kernel cannot be built or launched.
  func trying(_ parameters: Parameters, _ body: () throws -> Void) throws -> KernelResources?

  /// Whether `KernelResources.privateMemory` is what did not fit into registers: more of it than the shipped
  /// parameters take is a reason against a candidate.
  var countsSpills: Bool { get }
  /// Whether the driver may crash on a candidate or never come back, as far as is known. Each is then tried in a
  /// process of its own first.
  var mayCrash: Bool { get }
  /// A table that ships, in the backend's own form: `table`, where there is one, with what searches found on this device
  /// that is faster than what ships. Throws where `table` is of another form.
  func exportedTuning(into table: Data?) throws -> Data
  /// What is on disk for this device and driver; nil where nothing is.
  var keptTuning: KeptTuning? { get }
}

/// The operations whose kernels have parameters.
public enum TunedOperation: String, Sendable, Codable, CaseIterable {
  /// `matmul`, and convolutions of one tap.
  case product
  case convolution
  case attention

  /// What the sizes of a key are.
  public var sizeNames: [String] {
    switch self {
    case .product: ["rows", "columns", "inner"]
    case .convolution: ["rows", "columns", "channels", "taps"]
    case .attention: ["queries", "keys", "head size"]
    }
  }
}

/// What parameters are chosen by: an operation with its storage and, roughly, its sizes.
public protocol TunableKey: Sendable, Hashable {
  /// What is computed.
  var operation: TunedOperation { get }
}

/// Whole numbers with names, for one kernel. Its description has the values with their names.
public protocol TunableParameters: Sendable, Hashable, CustomStringConvertible {
  /// The kernel that they are for.
  var kernel: String { get }
  /// In the order in which they are shown.
  var values: [(name: String, value: Int)] { get }
  /// Nil where there is no such kernel, or a name is missing or unknown.
  init?(kernel: String, values: [String: Int])
}

/// What a compiler made of a kernel.
public struct KernelResources: Sendable, Hashable {
  /// The most work-items of a work-group.
  public var workGroupSize: Int
  /// Local memory of a work-group, in bytes.
  public var localMemory: Int
  /// Bytes a work-item; on a GPU what did not fit into registers.
  public var privateMemory: Int

  /// See the properties.
  public init(workGroupSize: Int, localMemory: Int, privateMemory: Int) {
    (self.workGroupSize, self.localMemory) = (workGroupSize, localMemory)
    self.privateMemory = privateMemory
  }
}

/// What a search found for a key.
public struct TuningFinding<Key: TunableKey, Parameters: TunableParameters>: Sendable, Hashable {
  /// What the parameters are for.
  public var key: Key
  /// The fastest of those that gave right results.
  public var parameters: Parameters
  /// The next fastest, where another was right.
  public var runnerUp: Parameters?
  /// Seconds of the largest shape with the shipped parameters and with these, at the time of the search.
  public var shippedSeconds: Double
  /// Seconds of one launch with these parameters.
  public var tunedSeconds: Double
  /// How many parameters were timed.
  public var candidates: Int

  /// See the properties.
  public init(
    key: Key, parameters: Parameters, runnerUp: Parameters? = nil, shippedSeconds: Double,
    tunedSeconds: Double, candidates: Int
  ) {
    self.key = key
    self.parameters = parameters
    self.runnerUp = runnerUp
    self.shippedSeconds = shippedSeconds
    self.tunedSeconds = tunedSeconds
    self.candidates = candidates
  }
}
