import LangevinTensor

extension OpenCLBackend {
  /// Nil: a device has memory of its own.
  public func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> (any Storage)? {
    nil
  }
}
