import Foundation

/// A kind of backend: which devices of it there are, and how one is opened.
///
/// Once it is registered (`BackendRegistry` of the module Langevin), its devices are chosen by name, listed,
/// validated and measured like all others.
public protocol BackendProvider: Sendable {
  /// The first word of its devices' names: `cpu`, `opencl`.
  var name: String { get }
  /// As sentences call it: `OpenCL`.
  var title: String { get }
  /// The forms of its kernels, of which `BackendOptions.kernels` may ask for one.
  var kernelForms: [String] { get }

  /// Its devices on this machine, those that cannot be used too. Nothing runs on them.
  func devices() -> [ListedDevice]
  /// Opens the device with a number of `devices`; without a number the best one. Throws an error of one line where
  /// it is not there or cannot be used, or has no kernels of the form that is asked for.
  func open(_ number: Int?, _ options: BackendOptions) throws -> any Backend
  /// What it finds on this machine, with each device probed.
  func survey() -> BackendSurvey
}

extension BackendProvider {
  /// None: there is nothing to choose.
  public var kernelForms: [String] { [] }

  /// What `devices` says.
  public func survey() -> BackendSurvey {
    let devices = devices()
    let lines = devices.flatMap { device in
      [
        "\(device.name): \(device.title ?? title)",
        device.problem.map { "  cannot be used: \($0)" } ?? "  usable",
      ]
    }
    return BackendSurvey(lines: lines, values: [name: devices])
  }
}

/// A provider whose backends are tuned, with results on disk.
public protocol TuningProvider: BackendProvider {
  /// Of all devices and drivers that were ever tuned here.
  func keptTunings() -> [KeptTuning]
}

/// A device as a list shows it.
public struct ListedDevice: Sendable, Hashable, Codable {
  /// What it is, the best first.
  public enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
    case gpu, accelerator
    /// The machine's processor.
    case cpu
    case other
  }

  /// Its provider's name.
  public var provider: String
  /// Its number among the provider's devices; nil where there is only one and the provider's name is enough.
  public var number: Int?
  /// As it calls itself; nil where only an open backend knows.
  public var title: String?
  /// What it is.
  public var kind: Kind
  /// Why it cannot be used; nil where nothing is known against it.
  public var problem: String?
  /// For what a measurement of it holds: the device, its driver and the kernels that this package has for it. Nil
  /// where provider and title say enough.
  public var measuredAs: String?

  /// As a user asks for it, and as its backend is called: `cpu`, `opencl:0`.
  public var name: String { number.map { "\(provider):\($0)" } ?? provider }

  /// A device of a provider.
  public init(
    provider: String, number: Int? = nil, title: String? = nil, kind: Kind, problem: String? = nil,
    measuredAs: String? = nil
  ) {
    (self.provider, self.number, self.title) = (provider, number, title)
    (self.kind, self.problem, self.measuredAs) = (kind, problem, measuredAs)
  }
}

extension Sequence where Element == ListedDevice {
  /// The first usable device of the best kind.
  public var best: ListedDevice? {
    let usable = filter { $0.problem == nil }
    return ListedDevice.Kind.allCases.lazy.compactMap { kind in usable.first { $0.kind == kind } }.first
  }
}

/// How a backend is opened. One without a memory or programs of its own ignores those options.
public struct BackendOptions: Sendable {
  /// Bytes that the device may use, where less than it has.
  public var memoryLimit: Int?
  /// One of the provider's `kernelForms`, which `DeviceChoice.open` checks; nil for what fits the device.
  public var kernels: String?
  /// A folder for compiled programs; nil for the user's cache.
  public var programCache: URL?

  /// Nothing special, but for what is given.
  public init(memoryLimit: Int? = nil, kernels: String? = nil, programCache: URL? = nil) {
    (self.memoryLimit, self.kernels, self.programCache) = (memoryLimit, kernels, programCache)
  }
}

/// What a provider finds on a machine.
public struct BackendSurvey: Sendable {
  /// For people.
  public var lines: [String]
  /// For programs: the members that it adds to a JSON object.
  public var values: [String: any Encodable & Sendable]

  /// The same in both forms.
  public init(lines: [String], values: [String: any Encodable & Sendable]) {
    (self.lines, self.values) = (lines, values)
  }
}
