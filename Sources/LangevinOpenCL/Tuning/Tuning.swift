import COpenCL
import Foundation
import LangevinKernels
import LangevinTensor
import Logging

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

/// Which parameters a backend's kernels are launched with: those on trial, else what was found by a search on
/// this device, else the shipped ones.
struct Tuning: Sendable {
  private let device: DeviceDescription
  private let cache: TuningCache
  private let logger: Logger
  /// A kernel's source, as it is compiled.
  private let text: @Sendable (KernelSource) -> String
  private var hashes: [KernelSource: String] = [:]
  /// Found by a search; nil until the first use.
  private var found: [TuningKey: TuningEntry]?
  /// What each key that was met is launched with.
  private var chosen: [TuningKey: TuningParameters] = [:]
  /// Overrides everything else for kernels of its file.
  var trial: TuningParameters?
  /// What the compiler made of the kernel on trial; nil until it has been launched.
  var trialResources: KernelResources?

  init(
    device: DeviceDescription, cache: TuningCache, logger: Logger,
    text: @escaping @Sendable (KernelSource) -> String = { $0.text }
  ) {
    self.device = device
    self.cache = cache
    self.logger = logger
    self.text = text
  }

  /// One dictionary lookup, but for the first use of a key.
  mutating func parameters(_ key: TuningKey) -> TuningParameters {
    let parameters: TuningParameters
    if let known = chosen[key] {
      parameters = known
    } else {
      parameters = entries()[key]?.parameters ?? TuningTable.parameters(key, on: device)
      chosen[key] = parameters
    }
    if let trial, trial.source == parameters.source { return trial }
    return parameters
  }

  /// What searches found, by key.
  mutating func entries() -> [TuningKey: TuningEntry] {
    if let found { return found }
    let (cache, device, logger) = (cache, device, logger)
    let entries = cache.load(hash: { hash($0) }, logger: logger).filter { entry in
      entry.parameters.source == TuningTable.parameters(entry.key, on: device).source
        && entry.parameters.fits(entry.key, device)
    }
    let found = Dictionary(entries.map { ($0.key, $0) }) { $1 }
    self.found = found
    return found
  }

  /// Uses an entry from now on, in later processes too.
  mutating func keep(_ entry: TuningEntry) throws {
    var entries = entries()
    entries[entry.key] = entry
    (found, chosen[entry.key]) = (entries, entry.parameters)
    let (cache, logger) = (cache, logger)
    try cache.store([entry], hash: { hash($0) }, logger: logger)
  }

  private mutating func hash(_ source: KernelSource) -> String {
    if let hash = hashes[source] { return hash }
    let hash = FNV.name(text(source))
    hashes[source] = hash
    return hash
  }
}

extension OpenCLBackend {
  /// By what the parameters of an operation are chosen here; nil where its kernels have none.
  public func tuningKey(_ operation: Operation, inputs: [TensorSpec], output: TensorSpec) -> TuningKey? {
    // Only what is in bfloat16 makes the probe necessary.
    let pairs = inputs.contains { $0.dtype == .bfloat16 } && multipliesPairs
    return TuningKey(operation, inputs: inputs, output: output, family: family, pairs: pairs)
  }

  /// Everything worth trying on this device, the shipped parameters first.
  public func tuningSpace(_ key: TuningKey) -> [TuningParameters] {
    TuningParameters.space(key, on: description)
  }

  /// What ships for a key.
  public func shippedParameters(_ key: TuningKey) -> TuningParameters {
    TuningTable.parameters(key, on: description)
  }

  /// What a key is launched with.
  public func parameters(_ key: TuningKey) -> TuningParameters { locked { $0.tuning.parameters(key) } }

  /// What searches found on this device for the kernels as they are now.
  public var tunedEntries: [TuningKey: TuningEntry] { locked { $0.tuning.entries() } }

  /// Uses what a search found from now on, and stores it for later processes. Throws `OpenCLError.cache` where
  /// the file cannot be written; the entry is in use all the same.
  public func keep(_ entry: TuningEntry) throws { try locked { try $0.tuning.keep(entry) } }

  /// Runs `body` with every launch of the parameters' kernel made with them, and says what the compiler made
  /// of the kernel: nil where `body` launched none. One trial at a time.
  ///
  /// Throws what `body` throws; `TensorError.deviceFailure` where the kernel does not build or its work-groups
  /// are larger than it can be launched with.
  public func trying(_ parameters: TuningParameters, _ body: () throws -> Void) throws -> KernelResources? {
    locked { ($0.tuning.trial, $0.tuning.trialResources) = (parameters, nil) }
    defer { locked { $0.tuning.trial = nil } }
    try body()
    return locked { $0.tuning.trialResources }
  }
}

extension LaunchQueue {
  /// Called before a kernel is enqueued: one on trial must be able to run as it is launched.
  mutating func examine(_ kernel: cl_kernel, _ name: String, _ program: Program, _ local: [Int]?) throws {
    guard let trial = tuning.trial, trial.source == program.source, tuning.trialResources == nil else {
      return
    }
    let resources = try KernelResources(of: kernel, name, on: context.handle)
    let items = local?.reduce(1, *) ?? 1
    guard items <= resources.workGroupSize, resources.localMemory <= context.description.localMemory else {
      throw OpenCLError.unfit(kernel: name, parameters: "\(trial)", items: items, resources)
    }
    tuning.trialResources = resources
  }
}

extension KernelResources {
  /// What the driver says of a built kernel. Throws `OpenCLError`.
  init(of kernel: cl_kernel, _ name: String, on device: DeviceHandle) throws {
    func number<T: FixedWidthInteger>(_ parameter: Int32, _ type: T.Type) throws -> Int {
      var value: T = 0
      try check(
        clGetKernelWorkGroupInfo(
          kernel, device.id, cl_kernel_work_group_info(parameter), MemoryLayout<T>.size, &value, nil),
        "clGetKernelWorkGroupInfo(\(name))")
      return Int(clamping: value)
    }
    self.init(
      workGroupSize: try number(CL_KERNEL_WORK_GROUP_SIZE, Int.self),
      localMemory: try number(CL_KERNEL_LOCAL_MEM_SIZE, cl_ulong.self),
      privateMemory: try number(CL_KERNEL_PRIVATE_MEM_SIZE, cl_ulong.self))
  }
}

extension OpenCLBackend {
  /// What the driver says of a kernel. Throws `OpenCLError`.
  func resources(of kernel: String, _ source: KernelSource, options: String) throws -> KernelResources {
    try locked { queue in
      try KernelResources(
        of: queue.programs.kernel(kernel, source, options: options), kernel, on: queue.context.handle)
    }
  }
}
