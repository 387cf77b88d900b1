import Foundation
import Langevin
import LangevinCPU
import LangevinDoctor
import LangevinMeasurement
import LangevinTensor
import LangevinValidation
import Testing

@testable import LangevinTool

/// A third backend: the CPU's arithmetic under another name.
private final class Stub: ForwardingBackend, PeakMeasuring {
  private let cpu = CPUBackend()
  var base: any Backend { cpu }
  let name = "stub"
  let identity = BackendIdentity(title: "a stub")
  func measurePeak() throws -> PeakRates { PeakRates(flops: 1e11, bandwidth: 1e10) }
}

private struct StubProvider: ExaminedProvider {
  let name = "stub"
  let title = "stub"
  func devices() -> [ListedDevice] { [ListedDevice(provider: name, kind: .other)] }
  func open(_ number: Int?, _ options: BackendOptions) throws -> any Backend { Stub() }
  func examine(_ prober: Prober) -> Diagnosis {
    Diagnosis(findings: [.ok("the stub", "is one")], usableDevices: 0)
  }
  func answer(_ question: [String]) -> ProbeAnswer? { question == ["ping"] ? ProbeAnswer() : nil }
}

/// One registration is all that the commands need to know a backend.
@Suite(.serialized) struct BackendRegistryTests {
  init() { BackendRegistry.register(StubProvider()) }

  @Test func devicesListsIt() throws {
    let listing = DeviceListing()
    let lines = listing.lines
    let place = try #require(lines.firstIndex(of: "stub: stub"))
    #expect(lines[place + 1] == "  usable" && lines[0].hasPrefix("cpu: OpenBLAS"))
    let json = try JSONSerialization.jsonObject(with: JSONEncoder().encode(listing)) as? [String: Any]
    let found = try #require(json?["stub"] as? [[String: Any]])
    #expect(found.count == 1 && found[0]["kind"] as? String == "other")
    #expect(json?["cpu"] is [String: Any] && json?["opencl"] is [Any])
  }

  @Test func validateRunsOnIt() throws {
    #expect(try Validate.subjects("all", family: nil).map(\.device.name).contains("stub"))
    #expect(try !Validate.subjects("all", family: "gpu").map(\.device.name).contains("stub"))
    let subjects = try Validate.subjects("stub", family: nil)
    #expect(subjects.map(\.description) == ["a stub"])
    let cases = OperationCases.tiny.filter { $0.operation(.float32).kind == .softmax }
    #expect(!cases.isEmpty)
    let report = try Validator(version: "1", reference: Device(CPUBackend())).run(cases, on: subjects)
    #expect(report.passes && report.device("stub")?.verdict("softmax")?.passes == true)
  }

  @Test func aFormOfKernelsThatItHasNotIsRefused() {
    #expect {
      try Validate.subjects("stub", family: "gpu")
    } throws: {
      "\($0)".contains("--family is for OpenCL devices, not for stub")
    }
    #expect(throws: DeviceChoiceError.noSuchKernels(form: "gpu", device: "stub", forms: [])) {
      try DeviceChoice("stub")?.open(BackendOptions(kernels: "gpu"))
    }
  }

  @Test func benchTimesIt() throws {
    #expect(try MeasuredDevices("all").subjects.map(\.device.name).contains("stub"))
    let devices = try MeasuredDevices("stub,cpu")
    let softmax = OperationCase("softmax", .softmax, [[16, 64]])
    var bench = LangevinMeasurement.Bench(devices.subjects, version: "1")
    bench.rounds = 2
    let report = try bench.run(.ops, model: nil, [BenchWorkload(softmax, dtype: .float32)])
    #expect(report.devices.map(\.name) == ["stub", "cpu"] && report.devices[0].description == "a stub")
    let row = try #require(report.rows.first { $0.device == "stub" })
    #expect(row.rank != nil && row.wall?.values.count == 2 && row.verdict.isValidated, "\(row)")
  }

  @Test func generateDrawsOnIt() throws {
    let scratch = try Scratch()
    func draw(_ device: String) throws -> Picture {
      let file = scratch.url("\(device).png")
      var command = try Generate.parse([
        "grinning face", "--device", device, "--steps", "2", "--seed", "1", "--quiet", "-o", file.path,
      ])
      try command.run()
      return try Picture.read(file).picture
    }
    #expect(try draw("stub") == draw("cpu"))
  }

  @Test func doctorAndProbeAskIt() {
    let diagnosis = Examination(executable: Tool.executable).diagnosis()
    #expect(diagnosis.findings.contains { $0.check == "the stub" && $0.state == .ok })
    #expect(diagnosis.findings.contains { $0.check == "loader" })
    #expect(ProbeQuestion(arguments: ["stub", "ping"])?.answer() != nil)
    #expect(ProbeQuestion(arguments: ["stub", "pong"])?.answer() == nil)
    #expect(ProbeQuestion(arguments: ["stab", "ping"]) == nil)
  }

  @Test func choicesAreReadAndWritten() throws {
    for text in ["auto", "cpu", "opencl", "opencl:0", "opencl:12", "stub", "stub:3"] {
      #expect(try #require(DeviceChoice(text)).description == text)
    }
    for text in ["", "stab", "opencl:", "opencl:-1", "opencl:01", "opencl:x", "opencl:1:2", ":1", "auto:1"] {
      #expect(DeviceChoice(text) == nil, "\(text)")
    }
    #expect(DeviceChoice("opencl:3") == .openCL(3) && DeviceChoice("cpu") == .cpu)
    for text in ["stab", "stub:3"] {
      #expect {
        try DeviceChoice.parse(text)
      } throws: {
        "\($0)".contains("there are: auto, cpu, opencl:0 (") && "\($0)".contains(", stub")
      }
    }
  }

  @Test func theBestIsAUsableDeviceOfTheBestKind() {
    func device(_ number: Int, _ kind: ListedDevice.Kind, problem: String? = nil) -> ListedDevice {
      ListedDevice(provider: "opencl", number: number, kind: kind, problem: problem)
    }
    let devices = [
      device(0, .other), device(1, .cpu), device(2, .gpu, problem: "broken"), device(3, .accelerator),
      device(4, .accelerator),
    ]
    #expect(devices.best?.name == "opencl:3")
    #expect(devices.prefix(3).best?.name == "opencl:1")
    #expect([device(2, .gpu, problem: "broken")].best == nil)
  }
}
