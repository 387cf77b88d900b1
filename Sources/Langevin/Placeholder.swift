@_exported import LangevinTensor
