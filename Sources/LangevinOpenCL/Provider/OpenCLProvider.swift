import Foundation
import LangevinTensor

/// The machine's OpenCL devices, `opencl:0`, `opencl:1`, … in the loader's order.
public struct OpenCLProvider: TuningProvider {
  public let name = "opencl"
  public let title = "OpenCL"
  public var kernelForms: [String] { KernelFamily.allCases.map(\.rawValue) }

  /// Registered once by the module Langevin.
  public init() {}

  private static let sources = Programs.hash { $0.text }

  public func devices() -> [ListedDevice] { OpenCLDevices.all().map(listed) }

  private func listed(_ device: DeviceDescription) -> ListedDevice {
    let facts = [
      device.platform, device.platformVersion, device.name, device.driver, "\(device.computeUnits) units",
      Self.sources,
    ]
    return ListedDevice(
      provider: name, number: device.index, title: device.name,
      kind: ListedDevice.Kind(rawValue: device.type) ?? .other, problem: device.problem,
      measuredAs: facts.joined(separator: "\n"))
  }

  /// Throws `OpenCLError`.
  public func open(_ number: Int?, _ options: BackendOptions) throws -> any Backend {
    guard let index = number ?? devices().best?.number else {
      throw OpenCLError.noSuchDevice(index: 0, found: 0)
    }
    let family = try options.kernels.map { form in
      guard let family = KernelFamily(rawValue: form) else {
        let forms = kernelForms.joined(separator: " and ")
        throw OpenCLError.unusable(
          device: "\(name):\(index)", reason: "there are \(forms) kernels, but no '\(form)'")
      }
      return family
    }
    return try OpenCLBackend(
      index: index, family: family, memoryLimit: options.memoryLimit, programCache: options.programCache)
  }

  public func keptTunings() -> [KeptTuning] { KeptTuning.all() }
}
