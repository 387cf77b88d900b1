import CVectorMath
import Glibc

extension CPUBackend {
  /// The processor whose kernels OpenBLAS runs, such as `SkylakeX`; why there is none, where it does not load.
  public static var blasCore: String {
    switch BLAS.shared {
    case .success(let blas): blas.core
    case .failure(let error): error.description
    }
  }
  /// Why OpenBLAS cannot be used or is slow here; nil where all is well.
  public static var blasProblem: String? {
    switch BLAS.shared {
    case .success(let blas):
      vm_has_avx2() != 0 && BLAS.oldCores.contains(blas.core)
        ? "OpenBLAS runs its kernels for \(blas.core), which know nothing of this processor's AVX2" : nil
    case .failure(let error): error.description
    }
  }
  /// Cores that this process may run on.
  public static var cores: Int { coreCount }
  /// The machine's physical memory in bytes.
  public static var physicalMemory: Int { sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) }
}
