import COpenCL
import LangevinTensor
import Synchronization

/// One device's context and its in-order queue. One context per device: a shared one serialises some drivers.
final class OpenCLContext: Sendable {
  let handle: DeviceHandle
  let description: DeviceDescription
  private let shared: OpenCLHandle
  private let queues: Mutex<Queues>

  private struct Queues: Sendable {
    let ordinary: OpenCLHandle
    /// Made when it is first wanted.
    var profiling: OpenCLHandle?
    var isProfiling = false

    var current: OpenCLHandle { isProfiling ? profiling ?? ordinary : ordinary }
  }

  var context: cl_context { shared.pointer }

  /// The queue that commands go to now. Each is finished before the other takes its place.
  var queue: cl_command_queue { queues.withLock { $0.current }.pointer }

  /// Throws `OpenCLError`.
  init(index: Int) throws {
    let handles = DeviceHandle.all()
    guard handles.indices.contains(index) else {
      throw OpenCLError.noSuchDevice(index: index, found: handles.count)
    }
    handle = handles[index]
    description = handle.describe(index: index)
    if let problem = description.problem {
      throw OpenCLError.unusable(device: "opencl:\(index) (\(description.name))", reason: problem)
    }
    if description.isCPU {
      // Its buffers are the driver's malloc. Large blocks must go back to the system as soon as they are freed:
      // by default glibc keeps up to 32 MiB each in its heap, 0.9 GiB of 5 for Stable Diffusion 1.5.
      mallopt(M_MMAP_THRESHOLD, 1 << 17)
    }
    var code: cl_int = 0
    var device: cl_device_id? = handle.id
    let context = clCreateContext(nil, 1, &device, nil, nil, &code)
    guard let context, code == CL_SUCCESS else { throw OpenCLError.call("clCreateContext", code: code) }
    // The OpenCL 1.2 call: it is what a 1.2 platform has, and newer ones keep it.
    let queue = clCreateCommandQueue(context, handle.id, 0, &code)
    guard let queue, code == CL_SUCCESS else {
      clReleaseContext(context)
      throw OpenCLError.call("clCreateCommandQueue", code: code)
    }
    shared = OpenCLHandle(context)
    queues = Mutex(Queues(ordinary: OpenCLHandle(queue)))
  }

  /// Finishes the queue in use and turns to the one whose commands are timed, or back: profiling slows the queue
  /// of some drivers, so it has one of its own.
  ///
  /// Throws `OpenCLError`.
  func useProfilingQueue(_ isProfiling: Bool) throws {
    try check(clFinish(queue), "clFinish")
    try queues.withLock { queues in
      if isProfiling && queues.profiling == nil {
        var code: cl_int = 0
        let properties = cl_command_queue_properties(CL_QUEUE_PROFILING_ENABLE)
        queues.profiling = clCreateCommandQueue(context, handle.id, properties, &code).map(OpenCLHandle.init)
        try check(code, "clCreateCommandQueue")
      }
      queues.isProfiling = isProfiling
    }
  }

  /// Copies host bytes into a buffer, and waits for the copy. Throws `OpenCLError`.
  func write(_ bytes: UnsafeRawBufferPointer, to memory: cl_mem, byteOffset: Int) throws {
    try check(
      clEnqueueWriteBuffer(
        queue, memory, cl_bool(CL_TRUE), byteOffset, bytes.count, bytes.baseAddress, 0, nil, nil),
      "clEnqueueWriteBuffer")
  }

  /// Waits for all that was launched before, and copies a buffer's bytes to the host. Throws `OpenCLError`.
  func read(_ memory: cl_mem, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer) throws {
    try check(
      clEnqueueReadBuffer(
        queue, memory, cl_bool(CL_TRUE), byteOffset, bytes.count, bytes.baseAddress, 0, nil, nil),
      "clEnqueueReadBuffer")
  }

  deinit {
    queues.withLock { queues in
      for queue in [queues.ordinary, queues.profiling].compactMap({ $0 }) {
        clFinish(queue.pointer)
        clReleaseCommandQueue(queue.pointer)
      }
    }
    clReleaseContext(context)
  }
}
