import COpenCL
import LangevinTensor

/// One device's context and its in-order queue. One context per device: a shared one serialises some drivers.
final class OpenCLContext: @unchecked Sendable {
  let handle: DeviceHandle
  let description: DeviceDescription
  let context: cl_context
  let queue: cl_command_queue

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
    self.context = context
    self.queue = queue
  }

  deinit {
    clFinish(queue)
    clReleaseCommandQueue(queue)
    clReleaseContext(context)
  }
}
