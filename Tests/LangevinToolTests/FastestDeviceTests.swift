import Foundation
import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import Testing

@testable import LangevinTool

/// `auto` takes the fastest device that passes its self-test, by figures that are measured once.
@Suite struct FastestDeviceTests {
  private let scratch: Scratch
  private let kept: KeptSpeeds

  init() throws {
    scratch = try Scratch()
    kept = KeptSpeeds(folder: scratch.url("speeds"))
  }

  private func device(_ number: Int, driver: String = "1.0", problem: String? = nil) -> ListedDevice {
    ListedDevice(
      provider: "fake", number: number, title: "a card", kind: .gpu, problem: problem,
      measuredAs: "card \(number), driver \(driver)")
  }

  /// What a ranking said, and which devices it tried.
  private struct Outcome {
    var names: [String] = []
    var tried: [String] = []
    var notices: [DeviceNotice] = []
    var warnings: [String] {
      notices.compactMap { if case .warning(let line) = $0 { line } else { nil } }
    }
  }

  private func rank(
    _ devices: [ListedDevice], anew: Bool = false, in kept: KeptSpeeds? = nil, _ results: [String: SelfTest]
  ) throws -> Outcome {
    var outcome = Outcome()
    let ranking = try DeviceRanking(
      of: devices, kept: kept ?? self.kept, anew: anew,
      trying: { device in
        outcome.tried.append(device.name)
        return try #require(results[device.name])
      }, notice: { outcome.notices.append($0) })
    outcome.names = ranking.places.map(\.device.name)
    return outcome
  }

  @Test func theFastestComesFirstAndIsNotMeasuredAgain() throws {
    let devices = [device(0), device(1), device(2)]
    let results: [String: SelfTest] = [
      "fake:0": .passed(seconds: 0.02), "fake:1": .passed(seconds: 0.005), "fake:2": .passed(seconds: 0.011),
    ]
    let first = try rank(devices, results)
    #expect(first.names == ["fake:1", "fake:2", "fake:0"] && first.tried == ["fake:0", "fake:1", "fake:2"])
    #expect(first.notices == [.note("trying a small step on fake:0, fake:1, fake:2, once")])
    // Other figures now would not be looked at.
    let second = try rank(devices, ["fake:0": .passed(seconds: 1e-6)])
    #expect(second.names == first.names && second.tried.isEmpty && second.notices.isEmpty)
    let anew = try rank(devices, anew: true, results.merging(["fake:0": .passed(seconds: 0.001)]) { $1 })
    #expect(anew.names == ["fake:0", "fake:1", "fake:2"] && anew.tried.count == 3)
    #expect(try rank(devices, [:]).names == anew.names)
  }

  @Test func whatFailedIsNamedLeftOutAndTriedAgain() throws {
    let devices = [device(0), device(1, problem: "it is older than OpenCL 1.2"), device(2)]
    let outcome = try rank(
      devices, ["fake:0": .failed("its convolution is wrong"), "fake:2": .passed(seconds: 3)])
    #expect(outcome.names == ["fake:2"] && outcome.tried == ["fake:0", "fake:2"])
    #expect(
      outcome.warnings == [
        "fake:1 (a card) is left out: it is older than OpenCL 1.2",
        "fake:0 (a card) is left out: its self-test failed: its convolution is wrong",
      ])
    let mended = try rank(devices, ["fake:0": .passed(seconds: 1)])
    #expect(mended.names == ["fake:0", "fake:2"] && mended.tried == ["fake:0"])
    // One that fails later loses its figure.
    _ = try rank(devices, anew: true, ["fake:0": .failed("no"), "fake:2": .passed(seconds: 3)])
    #expect(kept.seconds(of: device(0)) == nil && kept.seconds(of: device(2)) == 3)
  }

  @Test func anotherDriverIsMeasuredAnew() throws {
    let pair = [device(0), device(1)]
    _ = try rank(pair, ["fake:0": .passed(seconds: 1), "fake:1": .passed(seconds: 2)])
    let updated = [device(0), device(1, driver: "2.0")]
    let outcome = try rank(updated, ["fake:1": .passed(seconds: 0.5)])
    #expect(outcome.tried == ["fake:1"] && outcome.names == ["fake:1", "fake:0"])
    // The old driver's figure is still that driver's.
    #expect(try rank(pair, [:]).names == ["fake:0", "fake:1"])
  }

  @Test func aDamagedFileIsMeasuredAnew() throws {
    let pair = [device(0), device(1)]
    let results: [String: SelfTest] = ["fake:0": .passed(seconds: 1), "fake:1": .passed(seconds: 2)]
    _ = try rank(pair, results)
    let folder = scratch.url("speeds")
    let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(files.count == 2)
    for text in ["", "{", #"{"key":"another","device":"x","seconds":0.001}"#] {
      for file in files { try Data(text.utf8).write(to: folder.appendingPathComponent(file)) }
      #expect(try rank(pair, results).tried == ["fake:0", "fake:1"], "\(text)")
      #expect(try rank(pair, [:]).names == ["fake:0", "fake:1"])
    }
  }

  @Test func aFolderThatCannotBeWrittenIsOnlyAWarning() throws {
    let file = scratch.url("a file")
    try Data().write(to: file)
    for kept in [KeptSpeeds(folder: file.appendingPathComponent("below")), KeptSpeeds(folder: nil)] {
      let outcome = try rank(
        [device(0), device(1)], in: kept, ["fake:0": .passed(seconds: 2), "fake:1": .passed(seconds: 1)])
      #expect(outcome.names == ["fake:1", "fake:0"] && outcome.warnings.count == 1)
      #expect(outcome.warnings[0].hasPrefix("the devices' speeds cannot be kept"), "\(outcome.warnings)")
    }
  }

  @Test func everyDeviceHerePassesAndAFaultyOneDoesNot() throws {
    let usable = OpenCLDevices.all().filter { $0.problem == nil && $0.type == "cpu" }
    let devices =
      [Device(CPUBackend())] + (try usable.map { Device(try OpenCLBackend(index: $0.index)) })
    #expect(devices.count > 1)
    for device in devices {
      guard case .passed(let seconds) = SelfTest.run(on: device) else {
        Issue.record("\(device.label): \(SelfTest.run(on: device))")
        continue
      }
      #expect(seconds > 0 && seconds < 5)
    }
    for (kind, words) in [(LangevinTensor.Operation.Kind.conv2d, "convolution"), (.attention, "attention")] {
      guard case .failed(let reason) = SelfTest.run(on: Device(Faulty(kind))) else {
        Issue.record("a faulty \(words) passes")
        continue
      }
      #expect(reason.hasPrefix("its \(words) is wrong: "), "\(reason)")
    }
  }

  /// They compile for seconds before a first picture, on the cores that the CPU backend has.
  @Test func driversForTheProcessorTakePartOnceTheirFiguresAreKnown() throws {
    _ = try Tool.pocl()
    let others = BackendRegistry.devices.filter {
      $0.kind == .cpu && $0.provider == "opencl" && $0.problem == nil
    }
    let names = others.map(\.name)
    func open(triesProcessor: Bool = false) throws -> (name: String, tried: [String], notes: [DeviceNotice]) {
      var (tried, notes): ([String], [DeviceNotice]) = ([], [])
      let device = try DeviceChoice.automatic.open(
        kept: kept, triesProcessor: triesProcessor,
        trying: { device in
          tried.append(device.name)
          return .passed(seconds: device.name == names[0] ? 0.001 : 0.002)
        }, notice: { notes.append($0) })
      return (device.name, tried, notes)
    }
    let first = try open()
    #expect(first.name == "cpu" && Set(first.tried).isDisjoint(with: names), "\(first)")
    guard case .note(let line) = first.notes.last else {
      Issue.record("\(first.notes)")
      return
    }
    #expect(line.hasPrefix("using cpu") && names.allSatisfy(line.contains), "\(line)")
    #expect(line.contains("`langevin warm` tries whether"), "\(line)")
    let patient = try open(triesProcessor: true)
    #expect(patient.name == names[0] && Set(names).isSubset(of: patient.tried), "\(patient)")
    // From then on they are known.
    let later = try open()
    #expect(later.name == names[0] && later.tried.isEmpty, "\(later)")
    kept.forget(others[0])
    #expect(try open().name != names[0])
  }

  @Test func theToolTriesThemWhereOneWaits() throws {
    let pocl = try Tool.pocl()
    let environment = ["XDG_CACHE_HOME": scratch.url("cache").path]
    func run(_ arguments: [String]) throws -> String {
      let outcome = try Tool.run(arguments, in: scratch.folder, environment: environment)
      #expect(outcome.status == 0, "\(outcome.errors)")
      return outcome.errors
    }
    let picture = ["generate", "grinning face", "--steps", "1", "--seed", "1", "--output", "p.png"]
    let first = try run(picture)
    #expect(first.contains("using cpu") && first.contains(pocl) && !first.contains("trying"), "\(first)")
    let warm = try run(["warm"])
    #expect(warm.contains("trying a small step on cpu, ") && warm.contains(" on \(pocl)"), "\(warm)")
    let second = try run(picture)
    #expect(second.contains("a small step takes ") && !second.contains("tries whether"), "\(second)")
  }

  @Test func theToolChoosesByWhatIsKeptAndSaysSo() throws {
    let pocl = try Tool.pocl()
    let cache = scratch.url("cache")
    let environment = ["XDG_CACHE_HOME": cache.path]
    let speeds = KeptSpeeds(folder: cache.appendingPathComponent("langevin/speeds"))
    // The tool's processor is measured for the tool's own program, so it is tried by the tool.
    let measured = try Tool.run(["devices", "--measure"], in: scratch.folder, environment: environment)
    #expect(measured.status == 0, "\(measured.errors)")
    #expect(measured.errorLines.contains { $0.hasPrefix("trying a small step on cpu, ") })
    #expect(measured.output.contains("a small step takes ") && measured.output.contains(" on cpu"))
    for listed in BackendRegistry.devices where listed.provider == "opencl" && listed.problem == nil {
      #expect(speeds.seconds(of: listed) != nil)
      try speeds.keep(listed.name == pocl ? 1e-6 : 9, of: listed)
    }
    let run = try Tool.run(
      ["generate", "grinning face", "--steps", "1", "--seed", "1", "--output", "p.png"], in: scratch.folder,
      environment: environment)
    #expect(run.status == 0, "\(run.errors)")
    let line = try #require(run.errorLines.first { $0.hasPrefix("using ") })
    #expect(line.hasPrefix("using \(pocl): a small step takes 0.001 ms on \(pocl), "), "\(line)")
    #expect(line.contains(" on cpu"))
    for listed in BackendRegistry.devices where listed.provider == "opencl" { try speeds.keep(9, of: listed) }
    let other = try Tool.generate(
      ["--steps", "1", "--seed", "1", "--json"], in: scratch.folder, environment: environment)
    #expect(other.status == 0 && other.errors.isEmpty, "\(other.errors)")
    #expect(other.output.contains(#""device" : "cpu""#))
  }
}

/// The CPU backend with one wrong number in the outputs of one kind of operation.
private final class Faulty: ForwardingBackend {
  private let cpu = CPUBackend()
  private let kind: LangevinTensor.Operation.Kind
  var base: any Backend { cpu }

  init(_ kind: LangevinTensor.Operation.Kind) { self.kind = kind }

  func execute(_ operation: LangevinTensor.Operation, inputs: [TensorView], output: TensorView) throws {
    try base.execute(operation, inputs: inputs, output: output)
    guard operation.kind == kind else { return }
    try withUnsafeBytes(of: Float(1234.5)) {
      try base.upload($0, to: output.storage, byteOffset: output.offset * 4)
    }
  }
}
