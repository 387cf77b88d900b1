import CVectorMath
import Glibc

/// OpenBLAS, loaded when it is first asked for.
///
/// It is not linked, because it chooses its kernels once, when it is loaded, and a release older than the
/// processor takes the oldest ones it has (Debian 12's on a Sapphire Rapids: SSE3, a fifth of the speed). Only an
/// environment variable can steer that, so it has to be set first.
struct BLAS: Sendable {
  /// cblas_sgemm: order, transA, transB, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc.
  typealias SGEMM =
    @convention(c) (
      Int32, Int32, Int32, Int32, Int32, Int32, Float, UnsafePointer<Float>?, Int32, UnsafePointer<Float>?,
      Int32,
      Float, UnsafeMutablePointer<Float>?, Int32
    ) -> Void
  static let rowMajor: Int32 = 101
  static let noTranspose: Int32 = 111
  static let transpose: Int32 = 112

  /// Processors without AVX, whose kernels a release falls back to when it does not know the processor.
  static let oldCores: Set = ["Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Generic"]

  let sgemm: SGEMM
  /// The processor whose kernels it runs.
  let core: String

  static let shared: Result<BLAS, LoadError> = Result { () throws(LoadError) in try BLAS() }

  struct LoadError: Error, CustomStringConvertible {
    let description: String
  }

  /// For code that runs behind `CPUBackend.execute`, which has thrown where there is none.
  static var loaded: BLAS {
    guard case .success(let blas) = shared else { preconditionFailure("OpenBLAS was not loaded") }
    return blas
  }

  /// What OpenBLAS maps for each thread that multiplies (`BUFFER_SIZE` of x86-64).
  private static let bufferSize = 128 << 20

  /// Throws where the system would not give OpenBLAS its buffers: it tries for ever then.
  private static func checkAddressSpace() throws(LoadError) {
    // Its code too, and what glibc reserves for a moment where a thread begins its heap: a buffer that is refused then is
    // asked for without end.
    let size = coreCount * bufferSize + (64 << 20) + (128 << 20)
    let start = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let start, start != MAP_FAILED else {
      throw LoadError(
        description: "OpenBLAS needs \(size >> 20) MiB of address space, \(bufferSize >> 20) for each of "
          + "\(coreCount) threads, and the system refuses: \(String(cString: strerror(errno))); raise the limit "
          + "(ulimit -v), or use fewer cores (taskset)")
    }
    munmap(start, size)
  }

  private init() throws(LoadError) {
    try BLAS.checkAddressSpace()
    // Threads of its own would take buffers and never be used.
    let threads = getenv("OPENBLAS_NUM_THREADS").map { String(cString: $0) }
    setenv("OPENBLAS_NUM_THREADS", "1", 1)
    defer {
      if let threads { setenv("OPENBLAS_NUM_THREADS", threads, 1) } else { unsetenv("OPENBLAS_NUM_THREADS") }
    }
    var library = try Library()
    let wanted = vm_has_avx512() != 0 ? "SkylakeX" : vm_has_avx2() != 0 ? "Haswell" : nil
    // What the user chose stays.
    if let wanted, getenv("OPENBLAS_CORETYPE") == nil,
      BLAS.oldCores.contains(library.core)
    {
      library.close()
      setenv("OPENBLAS_CORETYPE", wanted, 0)
      defer { unsetenv("OPENBLAS_CORETYPE") }
      library = try Library()
    }
    // Products are split over the cores by us, so that each piece is finished while in its core's cache.
    library.setThreads(1)
    library.reserveBuffers(coreCount)
    sgemm = library.sgemm
    core = library.core
  }

  private struct Library {
    let handle: UnsafeMutableRawPointer
    let sgemm: SGEMM
    let setThreads: @convention(c) (Int32) -> Void
    let core: String

    init() throws(LoadError) {
      guard let handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL) else {
        throw LoadError(description: "OpenBLAS cannot be loaded: \(String(cString: dlerror()))")
      }
      func symbol(_ name: String) throws(LoadError) -> UnsafeMutableRawPointer {
        guard let symbol = dlsym(handle, name) else {
          throw LoadError(description: "this OpenBLAS has no \(name)")
        }
        return symbol
      }
      self.handle = handle
      sgemm = unsafeBitCast(try symbol("cblas_sgemm"), to: SGEMM.self)
      setThreads = unsafeBitCast(
        try symbol("openblas_set_num_threads"), to: (@convention(c) (Int32) -> Void).self)
      typealias Name = @convention(c) () -> UnsafePointer<CChar>?
      let name = unsafeBitCast(try symbol("openblas_get_corename"), to: Name.self)()
      core = name.map { String(cString: $0) } ?? "unknown"
    }

    /// Makes OpenBLAS map the buffers of so many threads now, while it is known that the system gives them; it keeps
    /// them. Where a release hides these functions, the address space may yet be spent on something else.
    func reserveBuffers(_ count: Int) {
      typealias Allocate = @convention(c) (Int32) -> UnsafeMutableRawPointer?
      typealias Free = @convention(c) (UnsafeMutableRawPointer?) -> Void
      guard let allocate = dlsym(handle, "blas_memory_alloc"), let free = dlsym(handle, "blas_memory_free")
      else {
        return
      }
      // All at once, or each would be given the same one. It has no more than 128.
      let buffers = (0..<min(count, 64)).map { _ in unsafeBitCast(allocate, to: Allocate.self)(0) }
      for buffer in buffers { unsafeBitCast(free, to: Free.self)(buffer) }
    }

    func close() { dlclose(handle) }
  }
}
