import LangevinTensor
import LangevinTestSupport

/// Every device on which the models must agree with the reference.
let devices: [Device] = TestDevices.open()
