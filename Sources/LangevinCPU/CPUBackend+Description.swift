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

  /// For what a measurement holds: the processor, its cores and the program, whose code the kernels are.
  static var measuredAs: String {
    var program = stat()
    stat("/proc/self/exe", &program)
    let build = "\(program.st_size) \(program.st_mtim.tv_sec) \(program.st_mtim.tv_nsec)"
    return [processor ?? "unknown", "\(cores) cores", build].joined(separator: "\n")
  }

  /// As it calls itself; nil where the system does not say.
  private static var processor: String? {
    guard let file = fopen("/proc/cpuinfo", "r") else { return nil }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, Int32(line.count), file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if text.hasPrefix("model name") { return text }
    }
    return nil
  }
}
