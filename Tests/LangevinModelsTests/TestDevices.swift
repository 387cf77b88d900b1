import LangevinCPU
import LangevinTensor

/// Every device on which the models must agree with the reference.
let devices: [Device] = [Device(CPUBackend())]
