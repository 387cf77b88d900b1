@_exported import LangevinCPU
@_exported import LangevinDiffusion
@_exported import LangevinJSON
@_exported import LangevinModels
@_exported import LangevinNN
@_exported import LangevinOpenCL
@_exported import LangevinTensor
@_exported import LangevinTraining
