import LangevinTensor

/// A float32 tensor; literals of whole numbers alone would leave its dtype open.
func float32(_ values: [Float], _ shape: Shape, on device: Device) throws -> Tensor {
  try Tensor(values, shape, on: device)
}
