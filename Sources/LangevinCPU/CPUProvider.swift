import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// `OpenBLAS, SkylakeX, 2 cores`.
  public var identity: BackendIdentity {
    BackendIdentity(
      title: "OpenBLAS, \(CPUBackend.blasCore), \(CPUBackend.cores) cores",
      summary: "OpenBLAS (\(CPUBackend.blasCore)), \(CPUBackend.cores) cores")
  }
}

/// The machine's processor over OpenBLAS, `cpu`.
public struct CPUProvider: BackendProvider {
  public let name = "cpu"
  public let title = "CPU"

  /// Registered once by the module Langevin.
  public init() {}

  /// One, whose title is not asked for here: OpenBLAS would have to be loaded.
  public func devices() -> [ListedDevice] {
    [ListedDevice(provider: name, kind: .cpu, measuredAs: CPUBackend.measuredAs)]
  }

  /// There is one, so the number does not matter. The options are for devices with memory and kernels of their own.
  public func open(_ number: Int?, _ options: BackendOptions) throws -> any Backend { CPUBackend() }

  public func survey() -> BackendSurvey {
    struct Values: Encodable {
      var name = "cpu"
      var cores = CPUBackend.cores
      var memory = CPUBackend.physicalMemory
      var blas = "OpenBLAS (\(CPUBackend.blasCore))"
      var bfloat16Products = vm_has_avx512_bf16() != 0
    }
    let values = Values()
    return BackendSurvey(
      lines: [
        "\(name): \(values.blas), float32 arithmetic"
          + (values.bfloat16Products ? ", products of bfloat16" : ""),
        "  \(values.cores) cores, \(ByteCount.text(values.memory)) of memory",
      ], values: [name: values])
  }
}
