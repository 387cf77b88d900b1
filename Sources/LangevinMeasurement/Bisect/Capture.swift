import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import LangevinValidation

import enum LangevinTensor.Operation

/// One operation with the inputs that it had in a model, in a safetensors file: what a divergence leaves behind,
/// to be computed again on any device.
public struct Capture: Sendable {
  /// Changes when the file is read otherwise.
  public static let currentFormat = "2"

  /// The operation at fault, with its parameters.
  public let operation: Operation
  /// In the operation's order.
  public let inputs: [Operand]
  /// `LayerPath` of the layer that ran it.
  public let path: String

  /// The operation of a divergence.
  public init(_ divergence: Divergence) {
    operation = divergence.operation
    inputs = divergence.inputs
    path = divergence.path
  }

  /// Writes tensors `input.0`, `input.1`, … and the operation as metadata; `version` is the writer's.
  ///
  /// Throws `CheckpointError.unwritable`.
  public func write(to url: URL, version: String) throws {
    let host = Device(CPUBackend())
    let tensors = try inputs.enumerated().map { index, input in
      ("input.\(index)", try Capture.tensor(input, on: host))
    }
    let metadata = [
      "langevin_capture": Capture.currentFormat, "version": version, "path": path,
      "operation": String(decoding: try OperationJSON.encode(operation), as: UTF8.self),
    ]
    try SafetensorsWriter.write(tensors, metadata: metadata, to: url)
  }

  /// Reads what `write` wrote.
  ///
  /// Throws `CheckpointError`; `.malformed` where it is no capture, or one of another version.
  public init(reading url: URL) throws {
    let file = try SafetensorsFile(url: url)
    func malformed(_ reason: String) -> CheckpointError { .malformed(path: url.path, reason: reason) }
    guard let format = file.metadata["langevin_capture"], let text = file.metadata["operation"] else {
      throw malformed("it was not written by `langevin bisect`")
    }
    let version = file.metadata["version"] ?? "?"
    guard format == Capture.currentFormat else {
      throw malformed(
        "it was written by langevin \(version) in format \(format), and this version reads format "
          + Capture.currentFormat)
    }
    do {
      operation = try OperationJSON.decode(Operation.self, from: Data(text.utf8))
    } catch {
      throw malformed("the operation in it, by langevin \(version), is not one of this version")
    }
    let host = Device(CPUBackend())
    inputs = try (0..<file.names.count).map { index in
      let tensor = try file.load("input.\(index)", on: host)
      return Operand(tensor.spec, bytes: try tensor.withBytes { [UInt8]($0) })
    }
    path = file.metadata["path"] ?? ""
    do {
      try OperationJSON.checkNumbers(in: operation)
      _ = try operation.output(of: inputs.map(\.spec))
    } catch {
      throw malformed("\(error)")
    }
  }

  /// Computes it on a device and holds it to float64, beside a reference: nil where the device is right. `notice` is
  /// told where the reference is not. Throws what the devices throw.
  public func compare(
    on backend: any Backend, reference: any Backend,
    notice: @escaping @Sendable (ReferenceFault) -> Void = { _ in }
  ) throws -> Divergence? {
    let device = Device(
      try ShadowBackend(backend, reference: reference, asksAlways: true, notice: notice))
    do {
      try layer(path) {
        _ = try Tensor.apply(operation, inputs.map { try Capture.tensor($0, on: device) }, on: device)
      }
      return nil
    } catch let divergence as Divergence {
      return divergence
    }
  }

  private static func tensor(_ operand: Operand, on device: Device) throws -> Tensor {
    try operand.bytes.withUnsafeBytes { try Tensor(bytes: $0, operand.spec, on: device) }
  }
}
