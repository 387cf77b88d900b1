import LangevinTensor
import LangevinTestSupport

/// Each suite that records has its own.
func openDevices() -> [Device] { TestDevices.open() }

let fixtures = Fixtures.url
