import COpenCL
import LangevinTensor

/// What OpenCL reported, with the call that reported it.
public enum OpenCLError: Error, Sendable, CustomStringConvertible {
  case call(String, code: Int32)
  /// A program did not build; the log is the compiler's own, and `file` has it where it could be kept.
  case build(program: String, options: String, log: String, file: String?)
  /// An extent that a kernel counts in 32 bits.
  case tooLarge(kernel: String, value: Int)
  case noSuchDevice(index: Int, found: Int)
  case unusable(device: String, reason: String)
  /// A kernel cannot be launched with the work-groups that its parameters ask for.
  case unfit(kernel: String, parameters: String, items: Int, KernelResources)
  /// An operand that lies in another backend's memory.
  case foreignStorage
  /// Parameters of another kernel were found for a key.
  case foreignParameters(key: String, parameters: String)
  /// A cache file cannot be written.
  case cache(path: String, reason: String)

  /// One line.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .call(let name, let code): "\(name) failed: \(OpenCLError.name(of: code)) (\(code))"
    case .build(let program, let options, let log, let file):
      "the kernel family '\(program)' does not build with \(options.shortened(to: 160)): \(BuildLog.summary(log))"
        + (file.map { "; all that the compiler says is in \($0)" } ?? "")
    case .tooLarge(let kernel, let value): "the kernel \(kernel) cannot count to \(value)"
    case .noSuchDevice(let index, let found):
      found == 0
        ? "there is no OpenCL device here; `langevin devices` says why"
        : "there is no OpenCL device \(index); the last is opencl:\(found - 1)"
    case .unusable(let device, let reason): "\(device) cannot be used: \(reason)"
    case .unfit(let kernel, let parameters, let items, let resources):
      "the kernel \(kernel) with \(parameters) cannot have work-groups of \(items): the compiler allows "
        + "\(resources.workGroupSize) work-items and took \(resources.localMemory) bytes of local memory"
    case .foreignStorage: "an operand lies in the memory of another device; copy the tensor to this one first"
    case .foreignParameters(let key, let parameters):
      "the parameters for \(key) are of another kernel: \(parameters)"
    case .cache(let path, let reason): "\(path) cannot be written: \(reason)"
    }
  }

  /// The specification's name of an error code.
  static func name(of code: Int32) -> String {
    let names: [Int32: String] = [
      -1: "CL_DEVICE_NOT_FOUND", -2: "CL_DEVICE_NOT_AVAILABLE", -3: "CL_COMPILER_NOT_AVAILABLE",
      -4: "CL_MEM_OBJECT_ALLOCATION_FAILURE", -5: "CL_OUT_OF_RESOURCES", -6: "CL_OUT_OF_HOST_MEMORY",
      -9: "CL_IMAGE_FORMAT_MISMATCH", -11: "CL_BUILD_PROGRAM_FAILURE", -12: "CL_MAP_FAILURE",
      -14: "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST", -30: "CL_INVALID_VALUE",
      -32: "CL_INVALID_PLATFORM", -33: "CL_INVALID_DEVICE", -34: "CL_INVALID_CONTEXT",
      -36: "CL_INVALID_COMMAND_QUEUE", -38: "CL_INVALID_MEM_OBJECT", -42: "CL_INVALID_BINARY",
      -43: "CL_INVALID_BUILD_OPTIONS", -44: "CL_INVALID_PROGRAM", -45: "CL_INVALID_PROGRAM_EXECUTABLE",
      -46: "CL_INVALID_KERNEL_NAME", -48: "CL_INVALID_KERNEL", -49: "CL_INVALID_ARG_INDEX",
      -50: "CL_INVALID_ARG_VALUE", -51: "CL_INVALID_ARG_SIZE", -52: "CL_INVALID_KERNEL_ARGS",
      -53: "CL_INVALID_WORK_DIMENSION", -54: "CL_INVALID_WORK_GROUP_SIZE", -55: "CL_INVALID_WORK_ITEM_SIZE",
      -59: "CL_INVALID_OPERATION", -61: "CL_INVALID_BUFFER_SIZE", -63: "CL_INVALID_GLOBAL_WORK_SIZE",
      -1001: "CL_PLATFORM_NOT_FOUND_KHR",
    ]
    return names[code] ?? "an error without a name"
  }
}

/// Throws where a call did not succeed.
func check(_ code: cl_int, _ call: String) throws {
  guard code == CL_SUCCESS else { throw OpenCLError.call(call, code: code) }
}
