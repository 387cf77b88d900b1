import Foundation
import Langevin
import LangevinDoctor
import LangevinNN
import LangevinTensor
import LangevinValidation

/// A kernel with parameters that are tried in a process of their own: some drivers crash on what they are given
/// to compile, or never come back, and then only the child dies.
public struct TuningCandidate: Sendable, Codable {
  private var test: OperationCase
  private var dtype: DType
  private var kernel: String
  private var values: [String: Int]
  /// Seconds for a build and one launch.
  private static let patience = 120.0

  /// Parameters for an operation.
  public init(_ test: OperationCase, _ dtype: DType, _ parameters: some TunableParameters) {
    self.test = test
    self.dtype = dtype
    kernel = parameters.kernel
    values = Dictionary(uniqueKeysWithValues: parameters.values.map { ($0.name, $0.value) })
  }

  /// As the parent wrote it. Throws `DecodingError`.
  public init(json: String) throws { self = try OperationJSON.decode(Self.self, from: Data(json.utf8)) }

  /// The child: builds, and runs once. The program cache hands what was built to the parent.
  ///
  /// Throws `TensorError` where the kernel cannot be built or launched, and `TunerError`.
  public func run(on device: Device) throws {
    try run(on: device, device.tunable)
  }

  private func run<Backend: TunableBackend>(on device: Device, _ backend: Backend) throws {
    guard let parameters = Backend.Parameters(kernel: kernel, values: values) else {
      throw TunerError.nothingToTune(device: device.name)
    }
    let inputs = try test.specs(dtype).map { try Tensor.fill(0, $0.shape, dtype: $0.dtype, on: device) }
    _ = try backend.trying(parameters) {
      _ = try Tensor.apply(test.operation(dtype), inputs, on: device)
      try backend.synchronize()
    }
  }

  /// The parent: runs this executable with `arguments` and the candidate as JSON, and says why the child did not
  /// come to its end; nil where it did.
  ///
  /// Throws where no process can be started.
  public func reasonAgainst(arguments: [String]) throws -> String? {
    let json = String(decoding: try OperationJSON.encode(self), as: UTF8.self)
    let outcome = try ChildProcess.run(
      URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath(), arguments + [json],
      environment: ProcessInfo.processInfo.environment, patience: TuningCandidate.patience)
    if outcome.isTimedOut { return "the driver did not come back within \(Int(TuningCandidate.patience)) s" }
    if let signal = outcome.signal { return "the driver crashed with signal \(signal)" }
    guard outcome.status != 0 else { return nil }
    return outcome.errors.split(separator: "\n").first.map(String.init) ?? "the driver refused it"
  }
}
