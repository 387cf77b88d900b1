import LangevinTensor
import LangevinTestSupport

/// Every device on which training must agree with the reference.
let devices: [Device] = TestDevices.open()
