import COpenBLAS
import Glibc

extension CPUBackend {
  /// The kernels that OpenBLAS chose for this processor, such as `SkylakeX`.
  public static var blasCore: String { String(cString: openblas_get_corename()) }
  /// Cores that this process may run on.
  public static var cores: Int { sysconf(Int32(_SC_NPROCESSORS_ONLN)) }
  /// The machine's physical memory in bytes.
  public static var physicalMemory: Int { sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) }
}
