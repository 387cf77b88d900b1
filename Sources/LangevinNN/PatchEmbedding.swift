import LangevinTensor

/// Cuts a picture into square patches and projects each: a convolution whose stride is its kernel, computed as one
/// product. arXiv:2010.11929, eq. 1.
public struct PatchEmbedding: Sendable {
  let weight: Weight
  let bias: Tensor?
  let patch: Int
  let channels: Int
  let adapter: Adapter?
  let path: String

  /// Loads `weight` [outputs, inputs, patch, patch] and, where there is one, `bias` [outputs] and an adapter
  /// (`lora_A`, `lora_B`).
  public init(_ weights: Weights, inputs: Int, outputs: Int, patch: Int, bias: Bool = true) throws {
    path = weights.layerPath
    self.patch = patch
    channels = inputs
    let kernel = Extent2D(height: patch, width: patch)
    weight = try weights.convolution(inputs: inputs, outputs: outputs, kernel: kernel)
    self.bias = bias ? try weights.tensor("bias", [outputs]) : nil
    adapter = try Adapter(weights, inputs: inputs, outputs: outputs, kernel: kernel)
  }

  /// [N, H, W, inputs] -> [N, H/patch * W/patch, outputs], patches in rows from the top; the patch divides H and W.
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    let (height, width) = (x.shape[1], x.shape[2])
    precondition(x.shape[3] == channels && height % patch == 0 && width % patch == 0)
    let (rows, columns) = (height / patch, width / patch)
    return try layer(path) {
      let patches = try x.reshaped([x.shape[0], rows, patch, columns, patch * channels])
        .transposed([0, 1, 3, 2, 4])
        .reshaped([x.shape[0], rows * columns, patch * patch * channels])
      let y = try patches.matmul(weight, bias: bias)
      guard let adapter else { return y }
      return try adapter(addedTo: y, activation: .identity) { try patches.matmul($0) }
    }
  }
}
