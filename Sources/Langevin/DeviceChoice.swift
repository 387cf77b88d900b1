import LangevinCPU
import LangevinTensor

/// Which device a user asked for: `auto`, or a provider of `BackendRegistry` with or without a device's number.
public struct DeviceChoice: Sendable, Hashable, CustomStringConvertible {
  /// The provider's name; nil for the best device of all, and the CPU backend where there is no other.
  public let provider: String?
  /// Which of the provider's devices; nil for its best.
  public let number: Int?

  /// The best kind of device that there is; the CPU backend where there is no other.
  public static let automatic = DeviceChoice(provider: nil, number: nil)
  /// The CPU backend over OpenBLAS.
  public static let cpu = DeviceChoice(provider: "cpu", number: nil)
  /// One OpenCL device; without a number the best of them.
  public static func openCL(_ number: Int?) -> DeviceChoice {
    DeviceChoice(provider: "opencl", number: number)
  }

  private init(provider: String?, number: Int?) { (self.provider, self.number) = (provider, number) }

  /// The device of a list.
  public init(_ device: ListedDevice) { self.init(provider: device.provider, number: device.number) }

  /// Nil unless the text is `auto`, `NAME` or `NAME:NUMBER` with the name of a registered provider. Whether the
  /// device is there is not asked.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    switch parts.count {
    case 1 where text == "auto": self = .automatic
    case 1: self.init(provider: text, number: nil)
    case 2:
      guard let number = Int(parts[1]), "\(number)" == parts[1], number >= 0 else { return nil }
      self.init(provider: parts[0], number: number)
    default: return nil
    }
    if let provider, BackendRegistry.provider(provider) == nil { return nil }
  }

  /// As `init` reads it.
  public var description: String {
    (provider ?? "auto") + (number.map { ":\($0)" } ?? "")
  }

  /// Opens the device.
  ///
  /// - Parameters:
  ///   - options: for the backend.
  ///   - fallback: whether operations without a kernel may run on the CPU backend; they are counted.
  ///   - notice: told in one line when `automatic` found no other device and took the CPU.
  ///
  /// Throws `DeviceChoiceError`, and what the provider throws where the device is not there or cannot be used.
  public func open(
    _ options: BackendOptions = BackendOptions(), fallback: Bool = true,
    notice: (String) -> Void = { _ in }
  ) throws -> Device {
    if let provider { return try open(provider, number, options, fallback) }
    let cpu = DeviceChoice.cpu.description
    let others = BackendRegistry.providers.filter { $0.name != cpu }
    var reason = "there is no \(others.map(\.title).joined(separator: " or ")) device here"
    if let best = others.flatMap({ $0.devices() }).best {
      do { return try open(best.provider, best.number, options, fallback) } catch { reason = "\(error)" }
    }
    notice("using the CPU backend: \(reason) (`langevin devices` says more)")
    return try open(cpu, nil, options, fallback)
  }

  private func open(_ name: String, _ number: Int?, _ options: BackendOptions, _ fallback: Bool) throws
    -> Device
  {
    guard let provider = BackendRegistry.provider(name) else { throw DeviceChoiceError.unknown("\(self)") }
    if let form = options.kernels, !provider.kernelForms.contains(form) {
      throw DeviceChoiceError.noSuchKernels(form: form, device: name, forms: provider.kernelForms)
    }
    let backend = try provider.open(number, options)
    // The CPU backend is total: it falls back on nothing.
    return Device(backend, fallback: fallback && !(backend is CPUBackend) ? CPUBackend() : nil)
  }
}

/// A device that cannot be as it was asked for.
public enum DeviceChoiceError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No provider of this name is registered.
  case unknown(String)
  /// `BackendOptions.kernels` is none of the device's forms.
  case noSuchKernels(form: String, device: String, forms: [String])

  /// One line that lists what there is.
  public var description: String {
    switch self {
    case .unknown(let choice):
      "unknown device '\(choice)'; there are: "
        + (["auto"] + BackendRegistry.providers.map(\.name)).joined(separator: ", ")
    case .noSuchKernels(let form, let device, let forms):
      "the device \(device) has no '\(form)' kernels; "
        + (forms.isEmpty ? "it has only one form" : "there are: \(forms.joined(separator: ", "))")
    }
  }
}
