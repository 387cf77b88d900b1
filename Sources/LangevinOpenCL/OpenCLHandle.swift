/// An OpenCL object that any thread may use at any time. Of all calls only `clSetKernelArg` is not safe that way
/// (OpenCL 1.2, appendix A.2), so kernels have no handle of this kind: they stay under the backend's lock.
struct OpenCLHandle: @unchecked Sendable, Hashable {
  let pointer: OpaquePointer

  init(_ pointer: OpaquePointer) { self.pointer = pointer }
}
