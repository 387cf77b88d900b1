import Dispatch
import LangevinCPU
import LangevinNN
import LangevinTensor
import Synchronization

extension BlockEncoding {
  /// The blocks of finite numbers, on all cores; the count is a multiple of `elementCount`.
  func encoded(_ values: [Float]) -> [UInt8] {
    let blocks = values.count / elementCount
    let share = max(1, 1 << 14 / elementCount)
    return [UInt8](unsafeUninitializedCapacity: byteCount(values.count)) { buffer, initialized in
      nonisolated(unsafe) let out = UnsafeMutableRawBufferPointer(buffer)
      values.withUnsafeBufferPointer { values in
        nonisolated(unsafe) let values = values
        DispatchQueue.concurrentPerform(iterations: (blocks + share - 1) / share) { part in
          let range = part * share..<min((part + 1) * share, blocks)
          encode(
            UnsafeBufferPointer(
              rebasing: values[range.lowerBound * elementCount..<range.upperBound * elementCount]),
            into: UnsafeMutableRawBufferPointer(
              rebasing: out[range.lowerBound * byteCount..<range.upperBound * byteCount]))
        }
      }
      initialized = byteCount(values.count)
    }
  }
}

/// A network's weights, with whose blocks products are computed in int8.
private final class Int8Weights: WeightSource {
  private let base: any WeightSource

  init(_ base: any WeightSource) { self.base = base }

  var names: [String] { base.names }
  var description: String { base.description }
  func spec(of name: String) -> TensorSpec? { base.spec(of: name) }
  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    base.spec(of: name, expecting: shape)
  }
  func encoding(of name: String) -> BlockEncoding? { base.encoding(of: name) }
  func arithmetic(of name: String) -> ProductArithmetic { .int8 }
  func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    try base.loadBlocks(name, on: device)
  }
  func load(_ name: String, on device: Device) throws -> Tensor { try base.load(name, on: device) }
}

/// A network's weights, of which those of its products become blocks as they are loaded.
///
/// These are matrices and convolutions whose every output has a multiple of 32 inputs: a network's first convolution and
/// its last bits are too small to matter. Tables, norms and biases stay as they are, and so does what is in blocks already.
final class QuantizedWeights: WeightSource {
  private let base: any WeightSource
  private let encoding: BlockEncoding
  /// Where numbers are read before they become blocks.
  private let host = Device(CPUBackend())

  init(_ base: any WeightSource, in encoding: BlockEncoding) { (self.base, self.encoding) = (base, encoding) }

  var names: [String] { base.names }
  var description: String { base.description }
  func spec(of name: String) -> TensorSpec? { base.spec(of: name) }
  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    base.spec(of: name, expecting: shape)
  }
  func load(_ name: String, on device: Device) throws -> Tensor { try base.load(name, on: device) }

  func encoding(of name: String) -> BlockEncoding? {
    if let stored = base.encoding(of: name) { return stored }
    // An adapter is small, and what it adds too.
    let isAdapter = [".lora_A.weight", ".lora_B.weight"].contains { name.hasSuffix($0) }
    guard let spec = base.spec(of: name), spec.dtype.isFloatingPoint, name.hasSuffix(".weight"), !isAdapter,
      spec.shape.rank == 2 || spec.shape.rank == 4, spec.shape.count > 0
    else { return nil }
    let inputs = spec.shape.count / spec.shape[0]
    return inputs % 32 == 0 && spec.shape.count % encoding.elementCount == 0 ? encoding : nil
  }

  func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    guard base.encoding(of: name) == nil else { return try base.loadBlocks(name, on: device) }
    guard let spec = base.spec(of: name), let encoding = encoding(of: name) else {
      throw WeightError.notInBlocks(name: name, source: description)
    }
    let words = encoding.spec(spec.shape.count)
    // A plan reads sizes alone.
    var bytes = [UInt8](repeating: 0, count: words.byteCount)
    if !(device.backend is any IdleBackend) {
      let blocks = encoding.encoded(try base.load(name, on: host).floats())
      bytes.replaceSubrange(0..<blocks.count, with: blocks)
    }
    return try bytes.withUnsafeBytes { try Tensor(bytes: $0, words, on: device) }
  }
}

extension Checkpoint.Component {
  /// Autoencoders are small beside what they work on, and every rounding of theirs shows.
  private var isQuantizable: Bool { !className.hasPrefix("Autoencoder") && !className.hasPrefix("VQ") }

  /// With its weights in blocks, but for an autoencoder.
  func quantized(_ encoding: BlockEncoding) -> Checkpoint.Component {
    guard isQuantizable else { return self }
    return Checkpoint.Component(
      className, config: config, weights: QuantizedWeights(weights, in: encoding))
  }

  /// With its products in that arithmetic, but for an autoencoder's.
  func multiplying(in arithmetic: ProductArithmetic) -> Checkpoint.Component {
    guard isQuantizable, arithmetic == .int8 else { return self }
    return Checkpoint.Component(className, config: config, weights: Int8Weights(weights))
  }
}
