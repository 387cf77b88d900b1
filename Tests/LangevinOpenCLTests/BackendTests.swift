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
      _ = try backend.programs.kernel(
        "map", .elementwise, options: "-DT=f32 -DVW=16 -DCHUNK=16 -DFUNCTION=no_such_thing")
    } throws: { error in
      guard case OpenCLError.build("elementwise", _, let log) = error else { return false }
      return log.contains("no_such_thing")
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
