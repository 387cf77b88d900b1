import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import Synchronization

/// The kinds of backends that this program knows, by name. `DeviceChoice` and the tool know only what is here.
public enum BackendRegistry {
  private static let known = Mutex<[any BackendProvider]>([CPUProvider(), OpenCLProvider()])

  /// In the order in which they were registered, `cpu` and `opencl` first.
  public static var providers: [any BackendProvider] { known.withLock { $0 } }

  /// Adds a kind of backend, or takes the place of the one that has its name. Its devices can be chosen from then on.
  public static func register(_ provider: any BackendProvider) {
    known.withLock { known in
      if let index = known.firstIndex(where: { $0.name == provider.name }) {
        known[index] = provider
      } else {
        known.append(provider)
      }
    }
  }

  /// Nil where none has this name.
  public static func provider(_ name: String) -> (any BackendProvider)? {
    providers.first { $0.name == name }
  }

  /// Every device of every provider, those that cannot be used too.
  public static var devices: [ListedDevice] { providers.flatMap { $0.devices() } }
}
