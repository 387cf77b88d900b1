import LangevinTensor

/// A two-dimensional convolution over [N, H, W, C].
public struct Convolution: Sendable {
  let weight: Weight
  let bias: Tensor?
  let kernel: Extent2D
  let stride: Int
  let padding: Padding2D
  let path: String

  /// Loads `weight` [outputs, inputs, kernel, kernel] and, where there is one, `bias` [outputs].
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
  }

  /// [N, H, W, inputs] -> [N, H', W', outputs]: `activation(conv(x) + b + perImage + residual)` in one operation.
  ///
  /// `perImage` is [N, outputs], `residual` has the output's shape.
  public func callAsFunction(
    _ x: Tensor, perImage: Tensor? = nil, residual: Tensor? = nil, activation: Activation = .identity
  ) throws -> Tensor {
    let isProduct = kernel == Extent2D(height: 1, width: 1) && stride == 1 && padding == Padding2D(0)
    return try layer(path) {
      if isProduct && perImage == nil {
        return try x.matmul(weight, bias: bias, residual: residual, activation: activation)
      }
      return try x.conv2d(
        weight, kernel: kernel, stride: stride, padding: padding, bias: bias, perImage: perImage,
        residual: residual, activation: activation)
    }
  }
}
