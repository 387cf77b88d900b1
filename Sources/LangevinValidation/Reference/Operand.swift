import Glibc
import LangevinTensor

/// Elements on the host in the bytes in which a device stores them: half the memory of `HostArray` or less, for
/// the operands of whole models.
public struct Operand: Sendable {
  /// What the bytes are.
  public let spec: TensorSpec
  /// `spec.byteCount` of them.
  public let bytes: [UInt8]

  /// Wraps bytes that are already there.
  public init(_ spec: TensorSpec, bytes: [UInt8]) {
    precondition(bytes.count == spec.byteCount)
    self.spec = spec
    self.bytes = bytes
  }

  /// Element i is `body(i)`, rounded to the dtype; on all cores.
  init(_ spec: TensorSpec, _ body: (Int) -> Double) {
    func make<Element: BitwiseCopyable>(_ convert: (Double) -> Element) -> [UInt8] {
      [UInt8](unsafeUninitializedCapacity: spec.byteCount) { buffer, initialized in
        nonisolated(unsafe) let out = UnsafeMutableRawBufferPointer(buffer)
        concurrently(spec.shape.count) { i in
          out.storeBytes(of: convert(body(i)), toByteOffset: i * MemoryLayout<Element>.size, as: Element.self)
        }
        initialized = spec.byteCount
      }
    }
    self.spec = spec
    bytes =
      switch spec.dtype {
      case .float32: make { Float($0) }
      case .float16: make { Float16($0) }
      case .bfloat16: make { UInt16(truncatingIfNeeded: Float(DType.bfloat16.round($0)).bitPattern >> 16) }
      case .int32: make { $0.isNaN ? 0 : Int32(min(max($0.rounded(.towardZero), -0x1p31), 0x1p31 - 1)) }
      }
  }

  /// The numbers of an array, rounded to its dtype.
  init(_ array: HostArray) { self.init(array.spec) { array.values[$0] } }

  /// The element of this number, widened to float64.
  subscript(index: Int) -> Double { bytes.withUnsafeBytes { Operand.element($0, index, spec.dtype) } }

  /// All elements in double precision.
  public var array: HostArray {
    bytes.withUnsafeBytes { bytes in
      nonisolated(unsafe) let bytes = bytes
      return HostArray(spec, parallelMap(spec.shape.count) { Operand.element(bytes, $0, spec.dtype) })
    }
  }

  /// The same numbers in float32, where they are floating point.
  var widened: Operand {
    guard spec.dtype.isFloatingPoint, spec.dtype != .float32 else { return self }
    return bytes.withUnsafeBytes { bytes in
      nonisolated(unsafe) let bytes = bytes
      return Operand(TensorSpec(spec.shape)) { Operand.element(bytes, $0, spec.dtype) }
    }
  }

  /// The elements at these places, in a shape of their own.
  func gathered(_ places: [Int], _ shape: Shape) -> HostArray {
    bytes.withUnsafeBytes { bytes in
      nonisolated(unsafe) let bytes = bytes
      return HostArray(
        TensorSpec(shape, spec.dtype),
        parallelMap(places.count) { Operand.element(bytes, places[$0], spec.dtype) })
    }
  }

  /// The numbers of blocks; these are words.
  func decoded(_ encoding: BlockEncoding) -> Operand {
    let count = encoding.count(spec) ?? 0
    let numbers = [UInt8](unsafeUninitializedCapacity: count * 4) { buffer, initialized in
      bytes.withUnsafeBytes { words in
        encoding.decode(
          UnsafeRawBufferPointer(rebasing: words[..<encoding.byteCount(count)]),
          into: UnsafeMutableRawBufferPointer(buffer).bindMemory(to: Float.self))
      }
      initialized = count * 4
    }
    return Operand(TensorSpec([count]), bytes: numbers)
  }

  static func element(_ bytes: UnsafeRawBufferPointer, _ index: Int, _ dtype: DType) -> Double {
    switch dtype {
    case .float32: Double(bytes.loadUnaligned(fromByteOffset: index * 4, as: Float.self))
    case .float16: Double(bytes.loadUnaligned(fromByteOffset: index * 2, as: Float16.self))
    case .bfloat16:
      Double(BFloat16.float(bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
    case .int32: Double(bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
    }
  }
}

extension Operand {
  /// Draws an input. Element i depends on the seed and on i alone, so that all cores can draw at once.
  init(_ spec: TensorSpec, _ kind: InputKind, seed: UInt64) {
    let width = max(spec.shape.rank > 0 ? spec.shape[-1] : 1, 1)
    let normals = Operand.normals
    // The middle of the dtype's denormals.
    let denormal = spec.dtype == .float16 ? 0x1p-17 : 0x1p-131
    func bits(_ i: Int) -> UInt64 { Generator.scramble(seed &+ UInt64(i) &* 0x9E37_79B9_7F4A_7C15) }
    self.init(spec) { i in
      let word = bits(i)
      let normal = Double(normals[Int(word & 0xFFFF)])
      return switch kind {
      case .normal: normal
      case .wide: 10 * normal
      case .mean(let mean): mean + normal
      case .narrow(let mean, let deviation): mean + deviation * normal
      case .positive: 0.1 + 3.9 * Double(word >> 11) * 0x1p-53
      case .constant(let value): value
      case .ids(let vocabulary): Double(word % UInt64(max(vocabulary, 1)))
      case .mask: i % width != 0 && i % 3 == 0 ? -.infinity : normal
      case .nonFinite: i % 7 == 3 ? .nan : i % 11 == 5 ? -.infinity : normal
      case .extremes(let magnitude):
        word >> 62 == 0 ? normal : word >> 62 == 1 ? magnitude : -magnitude
      case .denormal: denormal * normal
      case .equalRows: Double(normals[Int(bits(i / width) & 0xFFFF)])
      case .blocks(let encoding):
        // The upper byte of a scale has its sign and its exponent.
        Double(
          Int32(
            bitPattern: (0..<4).reduce(UInt32(0)) { bytes, byte in
              let drawn = UInt32(truncatingIfNeeded: word >> UInt64(16 + 8 * byte)) & 0xFF
              let isUpper = encoding.scaleOffsets.contains((4 * i + byte) % encoding.byteCount - 1)
              return bytes | (isUpper ? drawn & 0x80 | 0x18 + drawn % 12 : drawn) << UInt32(8 * byte)
            }))
      }
    }
  }

  /// A table of standard normal numbers; the largest are about 4.3.
  private static let normals: [Float] = {
    var generator = Generator(seed: 0x5EED)
    return (0..<1 << 16).map { _ in Float(generator.normal()) }
  }()
}
