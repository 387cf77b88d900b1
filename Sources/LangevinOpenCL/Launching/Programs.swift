import COpenCL
import Glibc
import LangevinKernels
import LangevinTensor
import Logging

/// What a launch looks its kernel up by.
struct KernelKey: Hashable {
  let program: Program
  /// Of the kernel's type.
  let kernel: ObjectIdentifier
}

/// Builds programs on demand and keeps their kernels.
final class Programs {
  /// Kernels that were launched: nothing is spelled out to find one again.
  var handles: [KernelKey: cl_kernel] = [:]
  private let context: OpenCLContext
  /// Nil where the driver keeps programs by itself.
  private let cache: ProgramCache?
  private let logger: Logger
  /// A source as it is compiled.
  private let text: @Sendable (KernelSource) -> String
  private var programs: [String: cl_program] = [:]
  private var kernels: [String: cl_kernel] = [:]

  init(
    context: OpenCLContext, cache: ProgramCache?, logger: Logger,
    text: @escaping @Sendable (KernelSource) -> String
  ) {
    self.context = context
    self.cache = cache
    self.logger = logger
    self.text = text
  }

  deinit {
    for kernel in kernels.values { clReleaseKernel(kernel) }
    for program in programs.values { clReleaseProgram(program) }
  }

  /// Throws `OpenCLError.build` with the compiler's log.
  func kernel(_ name: String, _ source: KernelSource, options: String) throws -> cl_kernel {
    let key = "\(Programs.id(source, options)) \(name)"
    if let kernel = kernels[key] { return kernel }
    let program = try program(source, options: options)
    var code: cl_int = 0
    guard let kernel = clCreateKernel(program, name, &code), code == CL_SUCCESS else {
      throw OpenCLError.call("clCreateKernel(\(name))", code: code)
    }
    kernels[key] = kernel
    return kernel
  }

  /// What names a program in this process.
  static func id(_ source: KernelSource, _ options: String) -> String { "\(source.rawValue) \(options)" }

  /// Of all sources in a form.
  static func hash(_ text: (KernelSource) -> String) -> String {
    let texts = KernelSource.allCases.map(text)
    return FNV.name(texts.joined(separator: "\n"))
  }

  private func program(_ source: KernelSource, options: String) throws -> cl_program {
    let id = Programs.id(source, options)
    if let program = programs[id] { return program }
    let program: cl_program
    do {
      program = try read(source, options)
    } catch let error as OpenCLError {
      // A driver's cache that many processes fill at once, or a full temporary folder, may fail for a moment.
      let reason = "\(error)".split(separator: "\n").first ?? ""
      logger.info("building \(source.rawValue) once more: \(reason)")
      usleep(100_000)
      program = try read(source, options)
    }
    programs[id] = program
    return program
  }

  /// From the cache, else from the source.
  private func read(_ source: KernelSource, _ options: String) throws -> cl_program {
    let text = text(source)
    let device = context.description
    let key = [
      source.rawValue, options, device.platform, device.platformVersion, device.name, device.driver,
      String(text.utf8.count), FNV.name(text),
    ].joined(separator: "\n")
    if let binary = cache?.load(key: key, logger: logger), let program = fromBinary(binary, options) {
      return program
    }
    let program = try fromSource(text, name: source.rawValue, options)
    if let cache, let binary = binary(of: program) { cache.store(binary, key: key, logger: logger) }
    return program
  }

  private func fromSource(_ text: String, name: String, _ options: String) throws -> cl_program {
    var code: cl_int = 0
    let program = text.withCString { pointer -> cl_program? in
      var string: UnsafePointer<CChar>? = pointer
      return clCreateProgramWithSource(context.context, 1, &string, nil, &code)
    }
    guard let program, code == CL_SUCCESS else {
      throw OpenCLError.call("clCreateProgramWithSource", code: code)
    }
    var built = build(program, options)
    if built == CL_OUT_OF_HOST_MEMORY {
      // Some drivers report this while work is in flight, and succeed once the queue is empty.
      clFinish(context.queue)
      built = build(program, options)
    }
    guard built == CL_SUCCESS else {
      let log = buildLog(program)
      clReleaseProgram(program)
      throw OpenCLError.build(
        program: name, options: options, log: log.isEmpty ? OpenCLError.name(of: built) : log,
        file: BuildLog.keep(log, program: name, options: options, beside: (cache ?? .standard).directory))
    }
    return program
  }

  /// Without warnings: PoCL writes their number to the user's terminal.
  private func build(_ program: cl_program, _ options: String) -> cl_int {
    var device: cl_device_id? = context.handle.id
    return clBuildProgram(program, 1, &device, options + " -w", nil, nil)
  }

  private func fromBinary(_ binary: [UInt8], _ options: String) -> cl_program? {
    var code: cl_int = 0
    var status: cl_int = 0
    var device: cl_device_id? = context.handle.id
    var size = binary.count
    let program = binary.withUnsafeBufferPointer { bytes -> cl_program? in
      var pointer = bytes.baseAddress
      return clCreateProgramWithBinary(context.context, 1, &device, &size, &pointer, &status, &code)
    }
    guard let program, code == CL_SUCCESS, status == CL_SUCCESS else {
      logger.warning("the driver refuses a cached program; rebuilding it")
      return nil
    }
    guard build(program, options) == CL_SUCCESS else {
      logger.warning("the driver refuses a cached program; rebuilding it")
      clReleaseProgram(program)
      return nil
    }
    return program
  }

  private func binary(of program: cl_program) -> [UInt8]? {
    var size = 0
    let sizes = cl_program_info(CL_PROGRAM_BINARY_SIZES)
    guard clGetProgramInfo(program, sizes, MemoryLayout<Int>.size, &size, nil) == CL_SUCCESS, size > 0 else {
      return nil
    }
    var bytes = [UInt8](repeating: 0, count: size)
    let code = bytes.withUnsafeMutableBufferPointer { buffer -> cl_int in
      var pointer = buffer.baseAddress
      return clGetProgramInfo(
        program, cl_program_info(CL_PROGRAM_BINARIES), MemoryLayout<UnsafeMutablePointer<UInt8>?>.size,
        &pointer, nil)
    }
    return code == CL_SUCCESS ? bytes : nil
  }

  private func buildLog(_ program: cl_program) -> String {
    var size = 0
    let parameter = cl_program_build_info(CL_PROGRAM_BUILD_LOG)
    clGetProgramBuildInfo(program, context.handle.id, parameter, 0, nil, &size)
    guard size > 1 else { return "" }
    var bytes = [UInt8](repeating: 0, count: size)
    clGetProgramBuildInfo(program, context.handle.id, parameter, size, &bytes, nil)
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}
