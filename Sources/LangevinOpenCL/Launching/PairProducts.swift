import CVectorMath
import Foundation
import LangevinKernels
import LangevinTensor
import Logging

/// How a processor's kernels multiply bfloat16 numbers: its value is the macro `PAIRS` of pairs.cl.
enum PairProducts: Int, Sendable, Hashable, CaseIterable {
  /// One by one, widened to float32.
  case none
  /// In pairs, by an instruction in assembly.
  case assembly
  /// In pairs, by the compiler's function for the instruction.
  case intrinsic

  /// Those that a driver may take, in the order in which they are tried.
  static let tried: [PairProducts] = [.assembly, .intrinsic]

  /// Whether a device can have the instruction at all: it is this machine's processor, which has it, and its vectors are
  /// of 512 bits. Nothing is compiled elsewhere.
  static func mayWork(on device: DeviceDescription) -> Bool {
    device.isCPU && (device.vectorWidth ?? 0) >= 16 && vm_has_avx512_bf16() != 0
  }
}

extension OpenCLBackend {
  /// Whether products of bfloat16 numbers are computed in pairs by an instruction of the processor's, which a probe found
  /// to be right: twice as many in a second. Else they are widened to float32.
  public var multipliesPairs: Bool { locked { [kernels] in kernels.pairProducts(&$0) != .none } }
}

extension LaunchQueue {
  /// The first form that works, by what is on record, else by trying.
  mutating func probePairs(_ record: PairRecord) -> PairProducts {
    for form in PairProducts.tried {
      switch record.state(form) {
      case .works: return form
      case .fails: continue
      case .unknown: break
      }
      record.begin(form)
      let problem = problem(with: form)
      record.end(form, works: problem == nil)
      guard let problem else { return form }
      logger.info("opencl:\(context.description.index): no bfloat16 pairs by \(form): \(problem)")
    }
    return .none
  }

  /// Compiles and runs `pair_probe`; nil where its sums are exact.
  private mutating func problem(with form: PairProducts) -> String? {
    // Whatever is listed or recorded at the moment.
    let (kept, keptRecorder) = (selection, recorder)
    (selection, recorder) = (nil, nil)
    defer { (selection, recorder) = (kept, keptRecorder) }
    do {
      let (a, b, start) = (PairProbe.left, PairProbe.right, PairProbe.start)
      func uploaded(_ numbers: [Float]) throws -> OpenCLStorage {
        let storage = try pool.allocate(numbers.count * 2)
        try numbers.map { UInt16($0.bitPattern >> 16) }.withUnsafeBytes {
          try context.write($0, to: storage.memory.pointer, byteOffset: 0)
        }
        return storage
      }
      var sums = [Float](repeating: -1, count: 16)
      let y = try pool.allocate(sums.count * 4)
      try launch(
        PairProbeKernel(a: uploaded(a), b: uploaded(b), y: y, start: start), .pairProbe(form), global: [1],
        local: [1])
      try sums.withUnsafeMutableBytes { try context.read(y.memory.pointer, byteOffset: 0, into: $0) }
      return sums == PairProbe.sums ? nil : "wrong sums"
    } catch {
      return "\(error)".split(separator: "\n").first.map(String.init) ?? "it failed"
    }
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

/// What is known of a driver's ways to multiply pairs. It is on disk, a line for each that was tried: a driver that
/// ended a process over one is not tried with it again.
struct PairRecord: Sendable {
  enum State: String {
    case works, fails, unknown
  }

  /// Nil remembers nothing.
  private let file: URL?

  /// `sources`: of the kernels.
  init(_ device: DeviceDescription, sources: String, folder: URL?) {
    let key = [device.platform, device.platformVersion, device.name, device.driver, sources]
    file = folder?.appendingPathComponent("pairs-\(FNV.name(key.joined(separator: "\n"))).txt")
  }

  func state(_ form: PairProducts) -> State {
    guard let words = lines()["\(form)"] else { return .unknown }
    if let state = State(rawValue: words) { return state }
    // The number of a process that is still at it, or that did not live to tell.
    guard let process = Int32(words), process > 0 else { return .unknown }
    return kill(process, 0) == 0 || errno == EPERM ? .unknown : .fails
  }

  func begin(_ form: PairProducts) { write(form, "\(getpid())") }

  func end(_ form: PairProducts, works: Bool) { write(form, (works ? State.works : .fails).rawValue) }

  private func lines() -> [String: String] {
    guard let file, let text = try? String(contentsOf: file, encoding: .utf8) else { return [:] }
    let pairs = text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    return Dictionary(pairs.filter { $0.count == 2 }.map { ($0[0], $0[1]) }, uniquingKeysWith: { $1 })
  }

  /// A line that cannot be written costs the next process another try.
  private func write(_ form: PairProducts, _ word: String) {
    guard let file else { return }
    var lines = lines()
    lines["\(form)"] = word
    let text = lines.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)\n" }.joined()
    try? FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try? Data(text.utf8).write(to: file, options: .atomic)
  }
}
