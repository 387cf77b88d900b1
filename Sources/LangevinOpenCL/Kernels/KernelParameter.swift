import COpenCL
import LangevinKernels

/// A parameter of a kernel, as a launch's type lists it or as a driver tells of it.
struct KernelParameter: Sendable, Hashable, CustomStringConvertible {
  /// What a launch must agree on with the kernel. Buffers are in global memory.
  enum Kind: Sendable, Hashable {
    case buffer(isWritten: Bool)
    case int, uint, ulong, float
    /// A type that no launch has.
    case other(String)
  }

  var name: String
  var kind: Kind

  init(_ name: String, _ kind: Kind) { (self.name, self.kind) = (name, kind) }

  var description: String {
    switch kind {
    case .buffer(let isWritten): "\(isWritten ? "" : "const ")buffer \(name)"
    case .other(let type): "\(type) \(name)"
    default: "\(kind) \(name)"
    }
  }

  /// Where two lists differ, in words; empty where they agree.
  static func differences(launch: [KernelParameter], kernel: [KernelParameter]) -> [String] {
    var differences: [String] = []
    for index in 0..<max(launch.count, kernel.count) {
      let ours = index < launch.count ? "\(launch[index])" : "nothing"
      let theirs = index < kernel.count ? "\(kernel[index])" : "nothing"
      if ours != theirs {
        differences.append("argument \(index): the launch has \(ours), the kernel \(theirs)")
      }
    }
    return differences
  }

  /// What the driver says of a kernel that was built with `-cl-kernel-arg-info`. Throws `OpenCLError`.
  static func list(of kernel: cl_kernel) throws -> [KernelParameter] {
    var count: cl_uint = 0
    try check(
      clGetKernelInfo(
        kernel, cl_kernel_info(CL_KERNEL_NUM_ARGS), MemoryLayout.size(ofValue: count), &count, nil),
      "clGetKernelInfo")
    return try (0..<count).map { try KernelParameter(of: kernel, index: $0) }
  }

  private init(of kernel: cl_kernel, index: cl_uint) throws {
    func number<T: FixedWidthInteger>(_ question: Int32, _ type: T.Type) throws -> T {
      var value: T = 0
      try check(
        clGetKernelArgInfo(kernel, index, cl_kernel_arg_info(question), MemoryLayout<T>.size, &value, nil),
        "clGetKernelArgInfo")
      return value
    }
    func string(_ question: Int32) throws -> String {
      var size = 0
      let question = cl_kernel_arg_info(question)
      try check(clGetKernelArgInfo(kernel, index, question, 0, nil, &size), "clGetKernelArgInfo")
      var bytes = [UInt8](repeating: 0, count: size)
      try check(clGetKernelArgInfo(kernel, index, question, size, &bytes, nil), "clGetKernelArgInfo")
      return text(bytes)
    }
    // PoCL's headers put this before every name that a built-in function has too, as `step`.
    let prefix = "_cl_"
    let spelled = try string(CL_KERNEL_ARG_NAME)
    name = spelled.hasPrefix(prefix) ? String(spelled.dropFirst(prefix.count)) : spelled
    let type = try string(CL_KERNEL_ARG_TYPE_NAME)
    let address = try number(CL_KERNEL_ARG_ADDRESS_QUALIFIER, cl_kernel_arg_address_qualifier.self)
    let qualifiers = try number(CL_KERNEL_ARG_TYPE_QUALIFIER, cl_kernel_arg_type_qualifier.self)
    switch (Int32(address), type) {
    case (CL_KERNEL_ARG_ADDRESS_GLOBAL, _) where type.hasSuffix("*"):
      kind = .buffer(isWritten: qualifiers & cl_kernel_arg_type_qualifier(CL_KERNEL_ARG_TYPE_CONST) == 0)
    case (CL_KERNEL_ARG_ADDRESS_PRIVATE, "int"): kind = .int
    case (CL_KERNEL_ARG_ADDRESS_PRIVATE, "uint"): kind = .uint
    case (CL_KERNEL_ARG_ADDRESS_PRIVATE, "ulong"): kind = .ulong
    case (CL_KERNEL_ARG_ADDRESS_PRIVATE, "float"): kind = .float
    default: kind = .other(type)
    }
  }
}

extension OpenCLBackend {
  /// What the driver says of a kernel's parameters. Throws `OpenCLError`.
  func parameters(of kernel: String, _ source: KernelSource, options: String) throws -> [KernelParameter] {
    try locked { queue in
      try KernelParameter.list(
        of: queue.programs.kernel(kernel, source, options: options + " -cl-kernel-arg-info"))
    }
  }
}
