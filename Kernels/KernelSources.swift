/// The OpenCL C sources, embedded in the binary.
public enum KernelSources {
  public static var storage: [UInt8] { PackageResources.storage_cl }
}
