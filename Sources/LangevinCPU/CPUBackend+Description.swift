import Glibc

extension CPUBackend {
  /// The processor whose kernels OpenBLAS runs, such as `SkylakeX`; why there is none, where it does not load.
  public static var blasCore: String {
    switch BLAS.shared {
    case .success(let blas): blas.core
    case .failure(let error): error.description
    }
  }
  /// Cores that this process may run on.
  public static var cores: Int { coreCount }
  /// The machine's physical memory in bytes.
  public static var physicalMemory: Int { sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) }
}
