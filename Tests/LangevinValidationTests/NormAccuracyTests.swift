import Foundation
import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import LangevinTestSupport
import LangevinValidation
import Testing

import enum LangevinTensor.Operation

/// One case of Fixtures/norms.safetensors, by Tests/Golden/make_norms.py.
private struct NormCase {
  private struct Settings: Decodable {
    let operation: String
    let groups: Int
    let epsilon: Float
    let largest: Double
    let rms: Double
  }

  let name: String
  let operation: Operation
  let inputs: [HostArray]
  /// In float64.
  let value: [Double]
  /// PyTorch's errors in float32.
  let largest: Double
  let rms: Double

  static func all() throws -> [NormCase] {
    let file = try SafetensorsFile(
      url: Fixtures.url.appending(path: "norms.safetensors"))
    let host = Device(CPUBackend())
    return try file.metadata.sorted { $0.key < $1.key }.map { name, text in
      let settings = try JSONDecoder().decode(Settings.self, from: Data(text.utf8))
      func array(_ part: String) throws -> HostArray { try HostArray(file.load("\(name).\(part)", on: host)) }
      let x = try [array("x"), array("gamma"), array("beta")]
      let (operation, count): (Operation, Int) =
        switch settings.operation {
        case "layer_norm": (.layerNorm(LayerNorm(epsilon: settings.epsilon)), 3)
        case "rms_norm": (.rmsNorm(epsilon: settings.epsilon), 2)
        default: (.groupNorm(GroupNorm(groups: settings.groups, epsilon: settings.epsilon)), 3)
        }
      return NormCase(
        name: name, operation: operation, inputs: Array(x.prefix(count)),
        value: zip(try array("value").values, try array("rest").values).map { $0 + $1 },
        largest: settings.largest, rms: settings.rms)
    }
  }
}

/// The norms are at most three times as far from float64 as PyTorch, on inputs that were found to show a mean whose
/// sum is a float, and on ones that are made to show one that is rounded.
@Suite struct NormAccuracyTests {
  private static func backends() throws -> [any Backend] {
    let found = OpenCLDevices.all().filter { $0.platform == "Portable Computing Language" }
    #expect(found.count == 1, "PoCL is missing: apt install pocl-opencl-icd")
    return [CPUBackend()]
      + (try found.flatMap { device in
        try [KernelFamily.cpu, .gpu].map { try OpenCLBackend(index: device.index, family: $0) }
      })
  }

  @Test func normsAreAsExactAsPyTorch() throws {
    let cases = try NormCase.all()
    #expect(cases.count { $0.name.hasPrefix("captured") } == 6 && cases.count == 18)
    for backend in try Self.backends() {
      let device = Device(backend)
      for test in cases {
        let result = try HostArray(
          Tensor.apply(test.operation, test.inputs.map { try $0.tensor(on: device) }, on: device))
        let errors = zip(result.values, test.value).map { abs($0 - $1) }
        let largest = errors.max() ?? 0
        let rms = (errors.reduce(0) { $0 + $1 * $1 } / Double(errors.count)).squareRoot()
        let ratios = "\(largest / test.largest) at most, \(rms / test.rms) in the mean"
        #expect(largest <= 3 * test.largest && rms <= 3 * test.rms, "\(backend.name) \(test.name): \(ratios)")
      }
    }
  }

  /// The float64 reference, which decides who is right, is itself held to numpy's.
  @Test func theReferenceAgreesWithNumPy() throws {
    for test in try NormCase.all() {
      let values = try Reference.evaluate(test.operation, test.inputs).values
      let error = zip(values, test.value).map { abs($0 - $1) / (abs($1) + 1) }.max() ?? 0
      #expect(error < 1e-9, "\(test.name): \(error)")
    }
  }
}
