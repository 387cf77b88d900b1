import COpenCL

/// What an OpenCL device says of itself. Kernels are chosen by these capabilities, never by a name.
public struct DeviceDescription: Sendable, Codable, Hashable {
  /// The number in `opencl:N`.
  public var index: Int
  /// The platform's name, as its driver spells it.
  public var platform: String
  /// `OpenCL <major>.<minor>` and the platform's own text.
  public var platformVersion: String
  /// The device's name, as its driver spells it.
  public var name: String
  /// Who made the device, as the driver spells it.
  public var vendor: String
  /// `OpenCL <major>.<minor>` and the device's own text.
  public var version: String
  /// The driver's version.
  public var driver: String
  /// `cpu`, `gpu`, `accelerator` or `other`.
  public var type: String
  /// Units that run work-groups at the same time: a CPU's threads, a GPU's multiprocessors.
  public var computeUnits: Int
  /// The highest clock in MHz; 0 where the driver does not say.
  public var clockMHz: Int
  /// The device's memory in bytes.
  public var globalMemory: Int
  /// Bytes of one buffer at most.
  public var maxAllocation: Int
  /// Local memory of a work-group, in bytes.
  public var localMemory: Int
  /// The most work-items that a work-group can have.
  public var maxWorkGroupSize: Int
  /// Floats of a vector register, which decide the tiles of CPUs; nil where the driver does not say.
  public var vectorWidth: Int?
  /// Whether it claims arithmetic in half precision (cl_khr_fp16); storage in half needs no claim.
  public var fp16: Bool
  /// Whether it claims arithmetic in double precision (cl_khr_fp64).
  public var fp64: Bool
  /// Whether subgroups reduce: claimed by the device and, in `OpenCLDevices.all(probe: true)`, tried.
  public var subgroups: Bool
  /// Whether the processor multiplies bfloat16 numbers in pairs by an instruction of its own: tried in
  /// `OpenCLDevices.all(probe: true)`, and false without.
  public var bfloat16Pairs: Bool
  /// Whether it multiplies bytes four at a time, in the same way.
  public var byteProducts: Bool
  /// Whether it claims images; no kernel here needs them.
  public var images: Bool
  /// Why the device cannot be used; nil where it can.
  public var problem: String?
  /// Which kernels run on it, and why; nil unless it was probed.
  public var kernels: FamilyChoice?

  /// Whether the device is the processor, which mostly decides the family of kernels.
  public var isCPU: Bool { type == "cpu" }
}

/// A device's handles. They are valid for the life of the process and may be used from any thread.
struct DeviceHandle: Sendable {
  let platform: PlatformHandle
  private let shared: OpenCLHandle

  var id: cl_device_id { shared.pointer }

  init(platform: PlatformHandle, id: cl_device_id) {
    (self.platform, shared) = (platform, OpenCLHandle(id))
  }

  func string(_ parameter: Int32) -> String {
    var size = 0
    guard clGetDeviceInfo(id, cl_device_info(parameter), 0, nil, &size) == CL_SUCCESS, size > 0 else {
      return ""
    }
    var bytes = [UInt8](repeating: 0, count: size)
    guard clGetDeviceInfo(id, cl_device_info(parameter), size, &bytes, nil) == CL_SUCCESS else { return "" }
    return text(bytes)
  }

  func number<T: FixedWidthInteger>(_ parameter: Int32, _ type: T.Type) -> Int {
    var value: T = 0
    let code = clGetDeviceInfo(id, cl_device_info(parameter), MemoryLayout<T>.size, &value, nil)
    return code == CL_SUCCESS ? Int(clamping: value) : 0
  }

  /// All devices of all platforms, in the loader's order.
  static func all() -> [DeviceHandle] {
    PlatformHandle.all().flatMap { (try? $0.devices()) ?? [] }
  }

  /// From "OpenCL <major>.<minor> <vendor's text>"; 0.0 where the text has another form.
  var openCLVersion: (major: Int, minor: Int) {
    let numbers =
      string(CL_DEVICE_VERSION).split(separator: " ").dropFirst().first?.split(separator: ".")
      .compactMap { Int($0) } ?? []
    return numbers.count == 2 ? (numbers[0], numbers[1]) : (0, 0)
  }

  func describe(index: Int) -> DeviceDescription {
    let types = number(CL_DEVICE_TYPE, UInt64.self)
    let type =
      if types & Int(CL_DEVICE_TYPE_GPU) != 0 { "gpu" } else if types & Int(CL_DEVICE_TYPE_CPU) != 0 {
        "cpu"
      } else if types & Int(CL_DEVICE_TYPE_ACCELERATOR) != 0 { "accelerator" } else { "other" }
    let extensions = Set(string(CL_DEVICE_EXTENSIONS).split(separator: " ").map(String.init))
    var problem: String?
    if number(CL_DEVICE_AVAILABLE, cl_bool.self) == 0 { problem = "the driver says that it is not available" }
    if number(CL_DEVICE_COMPILER_AVAILABLE, cl_bool.self) == 0 { problem = "its driver has no compiler" }
    if number(CL_DEVICE_ENDIAN_LITTLE, cl_bool.self) == 0 { problem = "it is big-endian" }
    if openCLVersion < (1, 2) { problem = "it is older than OpenCL 1.2" }
    let isCPU = type == "cpu"
    let vectorWidth = number(CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, cl_uint.self)
    if !isCPU, number(CL_DEVICE_MAX_WORK_GROUP_SIZE, Int.self) < 256 {
      problem = "its work-groups hold fewer than 256 work-items"
    }
    return DeviceDescription(
      index: index, platform: platform.string(CL_PLATFORM_NAME),
      platformVersion: platform.string(CL_PLATFORM_VERSION), name: string(CL_DEVICE_NAME),
      vendor: string(CL_DEVICE_VENDOR), version: string(CL_DEVICE_VERSION), driver: string(CL_DRIVER_VERSION),
      type: type, computeUnits: number(CL_DEVICE_MAX_COMPUTE_UNITS, cl_uint.self),
      clockMHz: number(CL_DEVICE_MAX_CLOCK_FREQUENCY, cl_uint.self),
      globalMemory: number(CL_DEVICE_GLOBAL_MEM_SIZE, cl_ulong.self),
      maxAllocation: number(CL_DEVICE_MAX_MEM_ALLOC_SIZE, cl_ulong.self),
      localMemory: number(CL_DEVICE_LOCAL_MEM_SIZE, cl_ulong.self),
      maxWorkGroupSize: number(CL_DEVICE_MAX_WORK_GROUP_SIZE, Int.self),
      vectorWidth: vectorWidth > 0 ? vectorWidth : nil,
      fp16: extensions.contains("cl_khr_fp16"),
      fp64: extensions.contains("cl_khr_fp64"),
      subgroups: !extensions.isDisjoint(with: ["cl_khr_subgroups", "cl_intel_subgroups"])
        || number(CL_DEVICE_MAX_NUM_SUB_GROUPS, cl_uint.self) > 0,
      bfloat16Pairs: false, byteProducts: false,
      images: number(CL_DEVICE_IMAGE_SUPPORT, cl_bool.self) != 0, problem: problem)
  }
}

/// The machine's OpenCL devices.
public enum OpenCLDevices {
  /// Every device of every platform, each with what it says of itself. With `probe`, each usable one also
  /// compiles and runs small kernels, and what goes wrong becomes its `problem`.
  public static func all(probe: Bool = false) -> [DeviceDescription] {
    DeviceHandle.all().enumerated().map { index, handle in
      var description = handle.describe(index: index)
      guard probe, description.problem == nil else { return description }
      do {
        let backend = try OpenCLBackend(index: index)
        try backend.probe()
        description.subgroups = backend.subgroups
        description.bfloat16Pairs = backend.multipliesPairs
        description.byteProducts = backend.multipliesBytes
        description.kernels = FamilyChoice(family: backend.family, reason: backend.familyReason)
      } catch {
        description.problem = "\(error)"
      }
      return description
    }
  }

  /// What goes wrong when the device `opencl:<index>` compiles and runs a small kernel; nil where all is well.
  public static func problem(index: Int) -> String? {
    do {
      try OpenCLBackend(index: index).probe()
      return nil
    } catch {
      return "\(error)"
    }
  }

  /// Every platform, those without a device too, in the loader's order.
  public static func platforms() -> [PlatformDescription] { PlatformHandle.all().map { $0.describe() } }
}
