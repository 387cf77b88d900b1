import LangevinNN
import LangevinTensor

/// What follows a ResNet block of a UNet.
enum UNetAttention: Sendable {
  case pixels(PixelAttention)
  case transformer(Transformer2D)
  case addedContext(AddedContextAttention)

  enum Shape: Sendable, Hashable {
    case pixels(PixelAttention.Shape)
    case transformer(Transformer2D.Shape)
    case addedContext(AddedContextAttention.Shape)
  }

  init(_ weights: Weights, _ shape: Shape) throws {
    switch shape {
    case .pixels(let shape): self = .pixels(try PixelAttention(weights, shape))
    case .transformer(let shape): self = .transformer(try Transformer2D(weights, shape))
    case .addedContext(let shape): self = .addedContext(try AddedContextAttention(weights, shape))
    }
  }

  /// x [N, H, W, C] -> [N, H, W, C]; only pixels do without a context.
  func callAsFunction(_ x: Tensor, context: UNetContext?) throws -> Tensor {
    switch self {
    case .pixels(let attention): return try attention(x)
    case .transformer(let transformer):
      guard let context else { preconditionFailure("a transformer without a context") }
      return try transformer(x, context: context)
    case .addedContext(let attention):
      guard let context else { preconditionFailure("cross-attention without a context") }
      return try attention(x, context: context)
    }
  }
}
