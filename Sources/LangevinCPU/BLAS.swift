import CVectorMath
import Glibc

/// OpenBLAS, loaded when the first CPU backend is made.
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

  private init() throws(LoadError) {
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

    func close() { dlclose(handle) }
  }
}
