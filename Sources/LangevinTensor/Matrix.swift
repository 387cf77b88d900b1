/// A constant right operand of a product, in the layout that its device computes fastest with.
public struct Matrix: Sendable {
  /// The elements, in `layout`.
  public let tensor: Tensor
  /// How the logical [K, N] lies in `tensor`.
  public let layout: MatrixLayout
  /// The inner extent of the product.
  public let rows: Int
  /// How many columns the matrix has, N: a product's outputs.
  public let columns: Int

  /// A row-major matrix [rows, columns].
  public init(_ tensor: Tensor) {
    self.tensor = tensor
    self.layout = .rowMajor
    self.rows = tensor.shape[0]
    self.columns = tensor.shape[1]
  }

  private init(_ tensor: Tensor, _ arrangement: WeightArrangement) {
    self.tensor = tensor
    self.layout = arrangement.layout
    self.rows = arrangement.taps * arrangement.channels
    self.columns = arrangement.columns
  }

  /// From PyTorch's Linear weight [outputs, inputs].
  public init(linear weight: Tensor) throws {
    let layout = weight.device.backend.weightLayout(.linear, columns: weight.shape[0])
    let arrangement = WeightArrangement.linear(weight.shape[0], weight.shape[1], layout: layout)
    if layout == .transposed {
      self.init(weight, arrangement)
      return
    }
    self.init(try Tensor.apply(.arrangeWeight(arrangement), [weight]), arrangement)
  }

  /// From PyTorch's Conv2d weight [outputs, inputs, height, width].
  public init(convolution weight: Tensor) throws {
    let layout = weight.device.backend.weightLayout(.convolution, columns: weight.shape[0])
    let arrangement = WeightArrangement.convolution(
      weight.shape[0], weight.shape[1], taps: weight.shape[2] * weight.shape[3], layout: layout)
    self.init(try Tensor.apply(.arrangeWeight(arrangement), [weight]), arrangement)
  }
}
