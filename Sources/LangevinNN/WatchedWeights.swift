import LangevinTensor
import Synchronization

/// A checkpoint whose parameters a tape watches as a model reads them: in float32 and in the checkpoint's own shapes,
/// whatever the model stores them as.
public final class WatchedWeights: WeightSource {
  private let source: any WeightSource
  private let tape: Tape
  private let isWatched: @Sendable (String) -> Bool
  private let read = Mutex<[String: Tensor]>([:])

  /// The parameters of a source, or some of them, as variables of a tape.
  public init(
    _ source: any WeightSource, by tape: Tape,
    where isWatched: @escaping @Sendable (String) -> Bool = { _ in true }
  ) { (self.source, self.tape, self.isWatched) = (source, tape, isWatched) }

  /// The source's.
  public var names: [String] { source.names }
  /// The source's.
  public var description: String { source.description }
  /// The source's.
  public func spec(of name: String) -> TensorSpec? { source.spec(of: name) }
  /// The source's.
  public func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    source.spec(of: name, expecting: shape)
  }

  /// The source's, but for what is watched, which is float32.
  public func encoding(of name: String) -> BlockEncoding? {
    isWatched(name) ? nil : source.encoding(of: name)
  }
  /// The source's.
  public func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    try source.loadBlocks(name, on: device)
  }

  /// The parameter as a variable, the same one each time; what is not watched comes as the source has it.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    guard isWatched(name) else { return try source.load(name, on: device) }
    if let known = read.withLock({ $0[name] }) { return known }
    let parameter = tape.watch(try source.load(name, on: device).cast(to: .float32))
    return read.withLock { read in
      read[name] = read[name] ?? parameter
      return read[name] ?? parameter
    }
  }

  /// What was read so far, by name: where gradients are asked for.
  public var parameters: [String: Tensor] { read.withLock { $0 } }
}
