import CVectorMath
import Foundation
import LangevinKernels
import LangevinTensor
import Logging

/// How kernels use one of a processor's instructions for sums of products of narrow numbers: its value is the macro of
/// pairs.cl or bytes.cl.
enum DotForm: Int, Sendable, Hashable, CaseIterable {
  /// Not at all.
  case none
  /// In assembly.
  case assembly
  /// As the compiler's function for the instruction.
  case intrinsic

  /// Those that a driver may take, in the order in which they are tried.
  static let tried: [DotForm] = [.assembly, .intrinsic]
}

/// Such an instruction.
enum DotInstruction: Sendable, Hashable, CaseIterable {
  /// Two products of bfloat16 numbers, added to a float32; else they are widened to float32.
  case pairs
  /// Four products of bytes, added to an int32.
  case bytes

  /// Of its probe.
  var source: KernelSource {
    switch self {
    case .pairs: .pairProbe
    case .bytes: .byteProbe
    }
  }

  /// Whether a device can have it at all: it is this machine's processor, which has it, and its vectors are of 512 bits.
  /// Nothing is compiled elsewhere.
  func mayWork(on device: DeviceDescription) -> Bool {
    guard device.isCPU, (device.vectorWidth ?? 0) >= 16 else { return false }
    return switch self {
    case .pairs: vm_has_avx512_bf16() != 0
    case .bytes: vm_has_vnni() != 0
    }
  }
}

extension OpenCLBackend {
  /// Whether products of bfloat16 numbers are computed in pairs by an instruction of the processor's, which a probe found
  /// to be right: twice as many in a second. Else they are widened to float32.
  public var multipliesPairs: Bool { locked { [kernels] in kernels.pairProducts(&$0) != .none } }

  /// Whether products of int8 are computed by an instruction of the processor's, which a probe found to be right.
  public var multipliesBytes: Bool { locked { [kernels] in kernels.byteProducts(&$0) != .none } }
}

extension LaunchQueue {
  /// The first form that works, by what is on record, else by trying.
  mutating func probe(_ instruction: DotInstruction, _ record: DotRecord) -> DotForm {
    for form in DotForm.tried {
      switch record.state(instruction, form) {
      case .works: return form
      case .fails: continue
      case .unknown: break
      }
      record.begin(instruction, form)
      let problem = problem(with: instruction, form)
      record.end(instruction, form, works: problem == nil)
      guard let problem else { return form }
      logger.info("opencl:\(context.description.index): no \(instruction) by \(form): \(problem)")
    }
    return .none
  }

  /// Compiles and runs the instruction's probe; nil where its sums are exact.
  private mutating func problem(with instruction: DotInstruction, _ form: DotForm) -> String? {
    // Whatever is listed or recorded at the moment.
    let (kept, keptRecorder) = (selection, recorder)
    (selection, recorder) = (nil, nil)
    defer { (selection, recorder) = (kept, keptRecorder) }
    do {
      let isRight =
        switch instruction {
        case .pairs: try pairSums(form) == PairProbe.sums
        case .bytes: try byteSums(form) == ByteProbe.sums
        }
      return isRight ? nil : "wrong sums"
    } catch {
      return "\(error)".split(separator: "\n").first.map(String.init) ?? "it failed"
    }
  }

  private mutating func pairSums(_ form: DotForm) throws -> [Float] {
    let y = try pool.allocate(64)
    func bits(_ numbers: [Float]) -> [UInt16] { numbers.map { UInt16($0.bitPattern >> 16) } }
    try launch(
      PairProbeKernel(
        a: uploaded(bits(PairProbe.left)), b: uploaded(bits(PairProbe.right)), y: y, start: PairProbe.start),
      .pairProbe(form), global: [1], local: [1])
    return try downloaded(y, [Float](repeating: -1, count: 16))
  }

  private mutating func byteSums(_ form: DotForm) throws -> [Int32] {
    let y = try pool.allocate(64)
    try launch(
      ByteProbeKernel(
        a: uploaded(ByteProbe.left), b: uploaded(ByteProbe.right), y: y, start: Int(ByteProbe.start)),
      .byteProbe(form), global: [1], local: [1])
    return try downloaded(y, [Int32](repeating: -1, count: 16))
  }

  private func uploaded<T: BitwiseCopyable>(_ numbers: [T]) throws -> OpenCLStorage {
    let storage = try pool.allocate(numbers.count * MemoryLayout<T>.size)
    try numbers.withUnsafeBytes { try context.write($0, to: storage.memory.pointer, byteOffset: 0) }
    return storage
  }

  private func downloaded<T: BitwiseCopyable>(_ y: OpenCLStorage, _ room: [T]) throws -> [T] {
    var numbers = room
    try numbers.withUnsafeMutableBytes { try context.read(y.memory.pointer, byteOffset: 0, into: $0) }
    return numbers
  }
}

/// What `pair_probe` is asked: small whole numbers, whose sums are exact in any order.
enum PairProbe {
  static let start: Float = 0.5
  /// [4, 16, 2]: no two lanes alike, nor the two numbers of a pair.
  static let left = (0..<128).map { Float($0 * 37 % 101 - 50) }
  static let right = (0..<128).map { Float($0 * 53 % 89 - 44) }

  static let sums = (0..<16).map { lane in
    (0..<4).reduce(into: start) { sum, step in
      for i in 0..<2 {
        let at = (step * 16 + lane) * 2 + i
        sum += left[at] * right[at]
      }
    }
  }
}

/// What `byte_probe` is asked.
enum ByteProbe {
  static let start: Int32 = -7
  /// [4, 16, 4], of all magnitudes.
  static let left = (0..<256).map { UInt8($0 * 37 % 256) }
  static let right = (0..<256).map { Int8($0 * 53 % 251 - 125) }

  static let sums = (0..<16).map { lane in
    (0..<4).reduce(into: start) { sum, step in
      for at in (step * 16 + lane) * 4..<(step * 16 + lane) * 4 + 4 {
        sum += Int32(left[at]) * Int32(right[at])
      }
    }
  }
}

/// What is known of a driver's ways to such instructions. It is on disk, a line for each that was tried: a driver that
/// ended a process over one is not tried with it again.
struct DotRecord: Sendable {
  enum State: String {
    case works, fails, unknown
  }

  /// Nil remembers nothing.
  private let file: URL?

  /// `sources`: of the kernels.
  init(_ device: DeviceDescription, sources: String, folder: URL?) {
    let key = [device.platform, device.platformVersion, device.name, device.driver, sources]
    file = folder?.appendingPathComponent("dots-\(FNV.name(key.joined(separator: "\n"))).txt")
  }

  func state(_ instruction: DotInstruction, _ form: DotForm) -> State {
    guard let words = lines()["\(instruction)-\(form)"] else { return .unknown }
    if let state = State(rawValue: words) { return state }
    // The number of a process that is still at it, or that did not live to tell.
    guard let process = Int32(words), process > 0 else { return .unknown }
    return kill(process, 0) == 0 || errno == EPERM ? .unknown : .fails
  }

  func begin(_ instruction: DotInstruction, _ form: DotForm) {
    write(instruction, form, "\(getpid())")
  }

  func end(_ instruction: DotInstruction, _ form: DotForm, works: Bool) {
    write(instruction, form, (works ? State.works : .fails).rawValue)
  }

  private func lines() -> [String: String] {
    guard let file, let text = try? String(contentsOf: file, encoding: .utf8) else { return [:] }
    let pairs = text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    return Dictionary(pairs.filter { $0.count == 2 }.map { ($0[0], $0[1]) }, uniquingKeysWith: { $1 })
  }

  /// A line that cannot be written costs the next process another try.
  private func write(_ instruction: DotInstruction, _ form: DotForm, _ word: String) {
    guard let file else { return }
    var lines = lines()
    lines["\(instruction)-\(form)"] = word
    let text = lines.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)\n" }.joined()
    try? FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try? Data(text.utf8).write(to: file, options: .atomic)
  }
}
