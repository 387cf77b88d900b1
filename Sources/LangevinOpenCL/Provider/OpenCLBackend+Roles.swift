import Foundation
import LangevinTensor

private let hostPageSize = Int(sysconf(Int32(_SC_PAGESIZE)))

extension OpenCLBackend {
  /// What the driver says of the device.
  public var identity: BackendIdentity {
    let it = description
    func yes(_ value: Bool) -> String { value ? "yes" : "no" }
    return BackendIdentity(
      title: it.name, summary: "\(it.name), \(it.platform), driver \(it.driver)", driver: it.driver,
      kernels: family.rawValue,
      details: [
        .init("platform", "\(it.platform), \(it.platformVersion)"), .init("driver", it.driver),
        .init("type", it.type), .init("units", "\(it.computeUnits)"), .init("MHz", "\(it.clockMHz)"),
        .init("memory", ByteCount.text(it.globalMemory)),
        .init("one buffer", ByteCount.text(it.maxAllocation)),
        .init("local", ByteCount.text(it.localMemory)), .init("work-group", "\(it.maxWorkGroupSize)"),
        .init("fp16", yes(it.fp16)), .init("fp64", yes(it.fp64)), .init("subgroups", yes(it.subgroups)),
      ])
  }

  /// A processor reads the host's memory, from the start of a page on. Nil elsewhere: a device has memory of its own.
  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> AdoptedMemory? {
    guard description.isCPU, let start = bytes.baseAddress, !bytes.isEmpty else { return nil }
    let byteOffset = Int(bitPattern: start) % hostPageSize
    let whole = UnsafeRawBufferPointer(start: start - byteOffset, count: byteOffset + bytes.count)
    return pool.adopt(whole, owner: owner).map { AdoptedMemory($0, byteOffset: byteOffset) }
  }
}

extension OpenCLBackend: TunableBackend {
  /// On a GPU: a processor's private memory is its stack.
  public var countsSpills: Bool { family == .gpu }

  /// All drivers but those that have been through whole searches: PoCL, and Intel's runtime for CPUs.
  public var mayCrash: Bool {
    ![DriverCache.pocl, "Intel(R) OpenCL"].contains { description.platform.hasPrefix($0) }
  }

  /// In the folder of the user's cache.
  public var keptTuning: KeptTuning? { KeptTuning.of(description) }
}

extension OpenCLBackend: CompilingBackend {
  /// The jobs of `compileJobs(for:)`, without the kernels that `readyKernels` has.
  public func missingJobs(for calls: Set<OperationCall>) throws -> [CompileJob] {
    readyKernels.missing(of: try compileJobs(for: calls))
  }

  /// Adds them to `readyKernels`.
  public func remember(_ done: [CompileJob]) { readyKernels.add(done) }

  /// PoCL's, where this is PoCL.
  public func driverCache(in environment: [String: String]) -> DriverCacheFolder? {
    DriverCache.folder(platform: description.platform, environment: environment).map { folder in
      let own = OpenCLBackend.programCacheFolder?.deletingLastPathComponent()
      let fresh = (own ?? FileManager.default.temporaryDirectory).appendingPathComponent("pocl")
      return DriverCacheFolder(driver: "PoCL", variable: "POCL_CACHE_DIR", folder: folder, fresh: fresh)
    }
  }
}
