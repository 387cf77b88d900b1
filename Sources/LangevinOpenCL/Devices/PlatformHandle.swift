import COpenCL
import Synchronization

/// A platform's handle. It is valid for the life of the process and may be used from any thread.
struct PlatformHandle: Sendable {
  private let shared: OpenCLHandle

  var id: cl_platform_id { shared.pointer }

  /// One thread at a time: drivers set themselves up when they are first asked, and PoCL 3.1 crashes or has no
  /// devices where a second thread asks meanwhile.
  private static let discovery = Mutex(())

  /// In the loader's order.
  static func all() -> [PlatformHandle] { discovery.withLock { _ in list() } }

  private static func list() -> [PlatformHandle] {
    var count: cl_uint = 0
    guard clGetPlatformIDs(0, nil, &count) == CL_SUCCESS, count > 0 else { return [] }
    var platforms = [cl_platform_id?](repeating: nil, count: Int(count))
    guard clGetPlatformIDs(count, &platforms, nil) == CL_SUCCESS else { return [] }
    return platforms.compactMap { $0 }.map { PlatformHandle(shared: OpenCLHandle($0)) }
  }

  /// Throws `OpenCLError.call` where the driver finds none.
  func devices() throws -> [DeviceHandle] { try Self.discovery.withLock { _ in try list() } }

  private func list() throws -> [DeviceHandle] {
    var count: cl_uint = 0
    let every = cl_device_type(CL_DEVICE_TYPE_ALL)
    try check(clGetDeviceIDs(id, every, 0, nil, &count), "clGetDeviceIDs")
    guard count > 0 else { return [] }
    var devices = [cl_device_id?](repeating: nil, count: Int(count))
    try check(clGetDeviceIDs(id, every, count, &devices, nil), "clGetDeviceIDs")
    return devices.compactMap { $0 }.map { DeviceHandle(platform: self, id: $0) }
  }

  func string(_ parameter: Int32) -> String {
    var size = 0
    let parameter = cl_platform_info(parameter)
    guard clGetPlatformInfo(id, parameter, 0, nil, &size) == CL_SUCCESS, size > 0 else { return "" }
    var bytes = [UInt8](repeating: 0, count: size)
    guard clGetPlatformInfo(id, parameter, size, &bytes, nil) == CL_SUCCESS else { return "" }
    return text(bytes)
  }

  func describe() -> PlatformDescription {
    let found = Result { try devices() }
    let problem: String? =
      switch found {
      case .success(let devices): devices.isEmpty ? "it has no device" : nil
      case .failure(OpenCLError.call(_, code: CL_DEVICE_NOT_FOUND)): "it has no device"
      case .failure(let error): "\(error)"
      }
    return PlatformDescription(
      name: string(CL_PLATFORM_NAME), vendor: string(CL_PLATFORM_VENDOR),
      version: string(CL_PLATFORM_VERSION), devices: (try? found.get().count) ?? 0, problem: problem)
  }
}

/// A driver's string: up to its zero byte, without white space at its end.
func text(_ bytes: [UInt8]) -> String {
  var result = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  while result.last?.isWhitespace == true { result.removeLast() }
  return result
}
