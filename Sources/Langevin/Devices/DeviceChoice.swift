import LangevinCPU
import LangevinTensor

/// Which device a user asked for: `auto`, or a provider of `BackendRegistry` with or without a device's number.
public struct DeviceChoice: Sendable, Hashable, CustomStringConvertible {
  /// The provider's name; nil for the fastest device of all.
  public let provider: String?
  /// Which of the provider's devices; nil for its best.
  public let number: Int?

  /// The fastest device that passes its self-test, by a measurement that is made once.
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

  /// Opens the device. `automatic` takes the fastest of those that pass their self-test, and where it does not open
  /// the next. OpenCL drivers for the processor take part once their figures are known: they compile for seconds, and are
  /// seldom much faster than the CPU backend.
  ///
  /// - Parameters:
  ///   - options: for the backend.
  ///   - fallback: whether operations without a kernel may run on the CPU backend; they are counted.
  ///   - isCandidate: of which providers `automatic` may take a device.
  ///   - kept: the devices' figures from earlier runs.
  ///   - triesProcessor: whether drivers for the machine's processor are tried too.
  ///   - test: what tries a device whose figure is not known, where there are several.
  ///   - notice: told in one line which device `automatic` took and why, and in one for each device left out.
  ///
  /// Throws `DeviceChoiceError`, and what the provider throws where the device is not there or cannot be used.
  public func open(
    _ options: BackendOptions = BackendOptions(), fallback: Bool = true,
    among isCandidate: (any BackendProvider) -> Bool = { _ in true }, kept: KeptSpeeds = KeptSpeeds(),
    triesProcessor: Bool = false, trying test: SelfTest.Runner = SelfTest.run(on:),
    notice: (DeviceNotice) -> Void = { _ in }
  ) throws -> Device {
    if let provider { return try open(provider, number, options, fallback) }
    let providers = BackendRegistry.providers.filter {
      isCandidate($0) && (options.kernels.map($0.kernelForms.contains) ?? true)
    }
    var failure: (any Error)?
    for device in try DeviceChoice.ranked(providers, kept, triesProcessor, test, notice) {
      do { return try open(device.provider, device.number, options, fallback) } catch {
        notice(.warning("\(device.name) is left out: \(error)"))
        failure = error
      }
    }
    throw failure ?? DeviceChoiceError.noneUsable(providers.map(\.title))
  }

  /// The choice that `automatic` stands for here; any other choice as it is. See `open`.
  public func resolved(
    kept: KeptSpeeds = KeptSpeeds(), trying test: SelfTest.Runner = SelfTest.run(on:),
    notice: (DeviceNotice) -> Void = { _ in }
  ) throws -> DeviceChoice {
    guard provider == nil else { return self }
    let providers = BackendRegistry.providers
    guard let best = try DeviceChoice.ranked(providers, kept, false, test, notice).first else {
      throw DeviceChoiceError.noneUsable(providers.map(\.title))
    }
    return DeviceChoice(best)
  }

  /// The fastest first. A single one is not measured.
  private static func ranked(
    _ providers: [any BackendProvider], _ kept: KeptSpeeds, _ triesProcessor: Bool, _ test: SelfTest.Runner,
    _ notice: (DeviceNotice) -> Void
  ) throws -> [ListedDevice] {
    let devices = providers.flatMap { $0.devices() }
    if devices.count <= 1 {
      let others = providers.filter { $0.name != cpu.description }
      if let device = devices.first, device.provider == cpu.description, !others.isEmpty {
        let titles = others.map(\.title).joined(separator: " or ")
        notice(
          .warning(
            "using the CPU backend: there is no \(titles) device here (`langevin devices` says more)"))
      }
      return devices
    }
    let untried = triesProcessor ? [] : sharingProcessor(devices).filter { kept.seconds(of: $0) == nil }
    let asked = devices.filter { !untried.contains($0) }
    var (best, line) = (asked, "")
    if asked.count > 1 {
      let ranking = try DeviceRanking(of: asked, kept: kept, trying: test, notice: notice)
      (best, line) = (ranking.places.map(\.device), ": \(ranking.summary)")
    }
    if best.first?.provider == cpu.description, !untried.isEmpty {
      line += "; `langevin warm` tries whether \(untried.map(\.name).joined(separator: " or ")) is faster"
    }
    if let first = best.first { notice(.note("using \(first.name)\(line)")) }
    return best
  }

  /// Drivers that compute on the same cores as the CPU backend, where that can be used.
  private static func sharingProcessor(_ devices: [ListedDevice]) -> [ListedDevice] {
    guard devices.contains(where: { $0.provider == cpu.description && $0.problem == nil }) else { return [] }
    return devices.filter { $0.kind == .cpu && $0.provider != cpu.description && $0.problem == nil }
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
  /// `automatic` found no device that can be used; the kinds that were looked for.
  case noneUsable([String])
  /// A device that was asked for failed.
  case unusable(device: String, reason: String)
  /// A device's speed could not be written down.
  case notKept(path: String, reason: String)

  /// One line that lists what there is.
  public var description: String {
    switch self {
    case .unknown(let choice):
      "unknown device '\(choice)'; there are: "
        + (["auto"] + BackendRegistry.providers.map(\.name)).joined(separator: ", ")
    case .noSuchKernels(let form, let device, let forms):
      "the device \(device) has no '\(form)' kernels; "
        + (forms.isEmpty ? "it has only one form" : "there are: \(forms.joined(separator: ", "))")
    case .noneUsable(let titles):
      "there is no \(titles.joined(separator: " or ")) device that can be used; `langevin doctor` says why"
    case .unusable(let device, let reason): "\(device) cannot be used: \(reason)"
    case .notKept(let path, let reason):
      "the devices' speeds cannot be kept, and are measured again next time: \(path): \(reason)"
    }
  }
}
