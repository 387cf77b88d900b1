import LangevinTensor

/// A two-dimensional convolution over [N, H, W, C].
public struct Convolution: Sendable {
  let weight: Weight
  let bias: Tensor?
  let kernel: Extent2D
  let stride: Int
  let padding: Padding2D
  let adapter: Adapter?
  let path: String

  /// Loads `weight` [outputs, inputs, kernel, kernel] and, where there is one, `bias` [outputs] and an
  /// adapter (`lora_A`, `lora_B`).
  ///
  /// Without `padding`, an odd kernel keeps the picture's size at stride 1.
  public init(
    _ weights: Weights, inputs: Int, outputs: Int, kernel: Int, stride: Int = 1, padding: Padding2D? = nil,
    bias: Bool = true
  ) throws {
    self.kernel = Extent2D(height: kernel, width: kernel)
    self.stride = stride
    path = weights.layerPath
    self.padding = padding ?? Padding2D((kernel - 1) / 2)
    weight = try weights.convolution(inputs: inputs, outputs: outputs, kernel: self.kernel)
    self.bias = bias ? try weights.tensor("bias", [outputs]) : nil
    adapter = try Adapter(weights, inputs: inputs, outputs: outputs, kernel: self.kernel)
  }

  /// [N, H, W, inputs] -> [N, H', W', outputs]: `activation(conv(x) + b + perImage + residual)`, in one
  /// operation where there is no adapter.
  ///
  /// `perImage` is [N, outputs], `residual` has the output's shape.
  public func callAsFunction(
    _ x: Tensor, perImage: Tensor? = nil, residual: Tensor? = nil, activation: Activation = .identity
  ) throws -> Tensor {
    try layer(path) {
      guard let adapter else {
        return try product(
          x, weight, bias: bias, perImage: perImage, residual: residual, activation: activation)
      }
      let y = try product(x, weight, bias: bias, perImage: perImage, residual: residual)
      return try adapter(addedTo: y, activation: activation) { try product(x, $0) }
    }
  }

  /// The convolution with a weight of this kernel.
  private func product(
    _ x: Tensor, _ weight: Weight, bias: Tensor? = nil, perImage: Tensor? = nil, residual: Tensor? = nil,
    activation: Activation = .identity
  ) throws -> Tensor {
    let isProduct = kernel == Extent2D(height: 1, width: 1) && stride == 1 && padding == Padding2D(0)
    if isProduct && perImage == nil {
      return try x.matmul(weight, bias: bias, residual: residual, activation: activation)
    }
    return try x.conv2d(
      weight, kernel: kernel, stride: stride, padding: padding, bias: bias, perImage: perImage,
      residual: residual, activation: activation)
  }
}
