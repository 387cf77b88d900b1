import Foundation
import LangevinCPU
import LangevinTensor
import Logging
import Synchronization
import Testing

@testable import LangevinOpenCL

@Suite struct BackendTests {
  @Test(arguments: TestDevice.all)
  func noiseHasTheSameBitsAsTheCPU(test: TestDevice) throws {
    let shape: Shape = [3, 17, 5, 4]
    let cpu = try Tensor.normal(
      shape, seed: 0xFEDC_BA98_7654_3210, stream: 2, step: 9, on: Device(CPUBackend()))
    let other = try Tensor.normal(shape, seed: 0xFEDC_BA98_7654_3210, stream: 2, step: 9, on: test.open())
    #expect(try cpu.floats().map(\.bitPattern) == other.floats().map(\.bitPattern))
  }

  @Test(arguments: TestDevice.all)
  func repeatedRunsHaveTheSameBits(test: TestDevice) throws {
    let device = try test.open()
    let x = try Tensor.normal([2, 33, 80], seed: 1, on: device)
    let first = try x.attention(keys: x, values: x, heads: 2).floats()
    for _ in 0..<3 {
      #expect(try x.attention(keys: x, values: x, heads: 2).floats() == first)
    }
  }

  /// Transposes through tiles, at and around their edges, and runs that several work-items share.
  @Test(arguments: TestDevice.all, [DType.float32, .float16])
  func movesKeepEveryBit(test: TestDevice, dtype: DType) throws {
    let cpu = Device(CPUBackend())
    let device = try test.open()
    func compare(_ shape: Shape, _ move: (Tensor) throws -> Tensor) throws {
      let x = try Tensor.normal(shape, seed: 3, on: cpu).cast(to: dtype)
      let (expected, got) = (try move(x), try move(x.copied(to: device)))
      #expect(expected.spec == got.spec)
      #expect(try expected.withBytes { Array($0) } == got.withBytes { Array($0) }, "\(shape)")
    }
    for (tokens, channels) in [(4, 4), (3, 40), (40, 3), (16, 16), (17, 33), (256, 48), (521, 70)] {
      try compare([2, tokens, channels]) { try $0.transposed([0, 2, 1]) }
      try compare([5, tokens, channels]) { try $0.rows(1..<4).transposed([2, 0, 1]) }
    }
    try compare([2, 7, 9, 20]) { try $0.transposed([0, 3, 1, 2]) }
    try compare([2, 20, 7, 9]) { try $0.transposed([0, 2, 3, 1]) }
    try compare([3, 5, 6, 7]) { try $0.transposed([3, 1, 0, 2]) }
    for count in [4095, 4096, 4097, 20_001] {
      try compare([count]) { try Tensor.concatenated([$0, $0.rows(1..<count)], axis: 0) }
      try compare([3, count]) { try $0.sliced(2..<count, axis: 1) }
    }
  }

  @Test(arguments: TestDevice.all)
  func masksThatHideEverything(test: TestDevice) throws {
    let device = try test.open()
    let q = try Tensor([Float](repeating: 1, count: 8), [1, 2, 4], on: device)
    let hidden = try Tensor([0, 0, -.infinity, -.infinity] as [Float], [2, 2], on: device)
    #expect(try q.attention(keys: q, values: q, heads: 1, mask: hidden).floats() == [1, 1, 1, 1, 0, 0, 0, 0])
    let zero = try Tensor([0, 0] as [Float], [1, 1, 2], on: device)
    let values = try Tensor([1, 2, 3, 4] as [Float], [1, 2, 2], on: device)
    let lowest = -Float.greatestFiniteMagnitude
    let finite = try Tensor([lowest, lowest] as [Float], [1, 2], on: device)
    #expect(try zero.attention(keys: values, values: values, heads: 1, mask: finite).floats() == [2, 3])
  }

  /// A device that drops NaN would turn a broken model into a plausible picture.
  @Test(arguments: TestDevice.all)
  func notANumberPassesThrough(test: TestDevice) throws {
    let device = try test.open()
    let x = try Tensor([.nan, 1, -.infinity, .infinity] as [Float], [4], on: device)
    for function in Unary.allCases { #expect(try x.map(function).floats()[0].isNaN, "\(function)") }
    #expect(try x.map(.exp).floats()[2...] == [0, .infinity])
    #expect(try x.map(.sigmoid).floats()[2...] == [0, 1])
    #expect(try x.map(.silu).floats()[3] == .infinity)
    #expect(try x.clamped(-2, 2).floats()[0].isNaN)
    #expect(try x.minimum(x.affine(scale: 0, offset: 0)).floats()[0].isNaN)
    #expect(try x.reduced(.maximum, axes: [0]).floats()[0].isNaN)
    #expect(try x.nonFiniteCount() == 3)
    let row = try Tensor((0..<40).map { $0 == 7 ? Float.nan : 1 }, [2, 20], on: device)
    #expect(try row.softmax().floats()[..<20].allSatisfy(\.isNaN))
    #expect(try row.layerNorm(epsilon: 1e-5).floats()[..<20].allSatisfy(\.isNaN))
    let image = try row.reshaped([1, 2, 20])
    #expect(try image.attention(keys: image, values: image, heads: 1).floats().contains { $0.isNaN })
  }

  @Test func memoryIsCountedAndReused() throws {
    let backend = try OpenCLBackend(index: 0)
    let device = Device(backend)
    do {
      let x = try Tensor.fill(1, [1 << 20], on: device)
      #expect(backend.memory.inUse == 4 << 20)
      let y = try x + x
      #expect(backend.memory.inUse == 8 << 20)
      #expect(try y.floats().allSatisfy { $0 == 2 })
    }
    #expect(backend.memory.inUse == 0)
    #expect(backend.memory.cached == 8 << 20)
    #expect(backend.memory.highWater == 8 << 20)
    let again = try Tensor.fill(3, [1 << 20], on: device)
    #expect(backend.memory.cached == 4 << 20)
    withExtendedLifetime(again) {}
    backend.releaseCachedMemory()
    #expect(backend.memory.cached == 0)
  }

  /// Wherever it begins, and its owner lives until no command reads it any more.
  @Test(arguments: TestDevice.all, [0, 1, 16, 1023, 1500])
  func aProcessorReadsTheHostsMemoryWhereItIs(test: TestDevice, offset: Int) throws {
    let device = try test.open()
    let backend = device.backend
    weak var owner: HostNumbers?
    do {
      let numbers = HostNumbers(5000)
      owner = numbers
      let part = numbers.values[offset..<offset + 3000]
      let bytes = UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: part))
      let before = backend.memory.inUse
      let x = try Tensor(adopting: bytes, owner: numbers, TensorSpec([3000]), on: device)
      #expect(backend.memory.inUse == before)
      #expect(try x.floats() == Array(part))
      let weight = try Weight(linear: x.reshaped([50, 60]))
      #expect(try weight.checkpointTensor().floats() == x.floats())
      #expect(try (x + x).floats()[2999] == Float(2 * (offset + 2999)))
    }
    try backend.synchronize()
    #expect(owner == nil)
  }

  @Test func outOfMemorySaysHowMuch() throws {
    let device = Device(try OpenCLBackend(index: 0, memoryLimit: 1 << 20))
    let held = try Tensor.fill(0, [1 << 17], on: device)
    #expect {
      try Tensor.fill(0, [1 << 18], on: device)
    } throws: { error in
      guard case TensorError.outOfMemory(let name, let requested, let inUse, let limit) = error else {
        return false
      }
      return name.hasPrefix("opencl:0") && requested == 1 << 20 && inUse == 1 << 19 && limit == 1 << 20
    }
    withExtendedLifetime(held) {}
  }

  @Test func missingDeviceIsNamed() {
    #expect {
      try OpenCLBackend(index: 99)
    } throws: { error in "\(error)".contains("there is no OpenCL device 99; the last is opencl:") }
  }

  @Test func failingBuildShowsTheCompilersLog() throws {
    let backend = try OpenCLBackend(index: 0)
    #expect {
      try backend.parameters(of: "map", .elementwise, options: "-DT=no_such_type -DVW=16 -DCHUNK=16")
    } throws: { error in
      guard case OpenCLError.build("elementwise", _, let log, _) = error else { return false }
      return log.contains("no_such_type")
    }
  }

  /// An error is one short line, however many lines and options there are; the file that it names has them all.
  @Test func aBuildLogGoesToAFile() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    let cache = folder.appendingPathComponent("programs")
    let backend = try OpenCLBackend(index: 0, programCache: cache)
    let options = (0..<200).reduce("-DT=no_such_type -DVW=16 -DCHUNK=16") { $0 + " -DOTHER\($1)=1" }
    let error = try #require(
      #expect(throws: OpenCLError.self) { try backend.parameters(of: "map", .elementwise, options: options) })
    guard case .build(_, _, let log, let file?) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(log.split(whereSeparator: \.isNewline).count > 5)
    #expect(!error.description.contains { $0.isNewline } && error.description.count < 600, "\(error)")
    #expect(error.description.contains("no_such_type") && error.description.hasSuffix(" is in \(file)"))
    let kept = try String(contentsOfFile: file, encoding: .utf8)
    #expect(kept.contains(log) && kept.contains(options) && file.hasPrefix(folder.path))
  }

  /// As one of many processes that fill a driver's cache at the same time may.
  @Test func aBuildThatFailsOnceIsRepeatedAndOneThatAlwaysFailsIsNot() throws {
    for failures in [1, 2] {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
        "langevin-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: folder) }
      let builds = Mutex(0)
      let backend = try OpenCLBackend(index: 0, programCache: folder) { source, text in
        guard source == .elementwise else { return text }
        let build = builds.withLock { count in
          count += 1
          return count
        }
        return build <= failures ? "no kernel" : text
      }
      let x = try Tensor([1, 2, 3] as [Float], [3], on: Device(backend))
      if failures == 1 {
        #expect(try x.affine(scale: 2, offset: 1).floats() == [3, 5, 7])
      } else {
        #expect(throws: TensorError.self) { try x.affine(scale: 2, offset: 1).floats() }
      }
      #expect(builds.withLock { $0 } == 2)
    }
  }

  @Test(arguments: ["truncate", "flip", "empty"])
  func damagedProgramCacheIsRebuilt(damage: String) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    func run(_ logger: Logger) throws -> [Float] {
      let device = Device(try OpenCLBackend(index: 0, programCache: folder, logger: logger))
      return try Tensor([1, 2, 3] as [Float], [3], on: device).silu().floats()
    }
    let expected = try run(Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() })
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    #expect(!files.isEmpty)
    for file in files {
      var bytes = try Data(contentsOf: file)
      switch damage {
      case "truncate": bytes = bytes.prefix(bytes.count / 2)
      case "flip": bytes[bytes.count - 9] ^= 0x10
      default: bytes = Data()
      }
      try bytes.write(to: file)
    }
    let warnings = Warnings()
    let logger = Logger(label: "test") { _ in warnings }
    #expect(try run(logger) == expected)
    #expect(warnings.messages.withLock { $0 }.contains { $0.contains("damaged") })
    // Rebuilt: the next start is quiet.
    let later = Warnings()
    #expect(try run(Logger(label: "test") { _ in later }) == expected)
    #expect(later.messages.withLock { $0 }.isEmpty)
  }

  @Test func everyDeviceSaysWhatItIs() throws {
    let devices = OpenCLDevices.all(probe: true)
    #expect(!devices.isEmpty)
    for (index, device) in devices.enumerated() {
      #expect(device.index == index)
      #expect(device.problem == nil, "\(device)")
      #expect(!device.name.isEmpty && !device.platformVersion.isEmpty && !device.driver.isEmpty)
      #expect(device.globalMemory > 0 && device.computeUnits > 0 && device.maxWorkGroupSize > 0)
    }
  }
}

/// Keeps what is logged at warning and above.
final class Warnings: LogHandler, Sendable {
  let messages = Mutex<[String]>([])
  var metadata: Logger.Metadata {
    get { [:] }
    set {}
  }
  var logLevel: Logger.Level {
    get { .warning }
    set {}
  }
  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { nil }
    set {}
  }

  func log(event: LogEvent) { messages.withLock { $0.append("\(event.message)") } }
}

/// Whole numbers from 0 on, in pages of their own.
private final class HostNumbers: Sendable {
  nonisolated(unsafe) let values: UnsafeBufferPointer<Float>

  init(_ count: Int) {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count * 4, alignment: 4096)
    let values = memory.bindMemory(to: Float.self)
    for i in 0..<count { values[i] = Float(i) }
    self.values = UnsafeBufferPointer(values)
  }

  deinit { UnsafeMutableBufferPointer(mutating: values).deallocate() }
}
