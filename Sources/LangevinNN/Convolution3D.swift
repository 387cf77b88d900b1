import LangevinTensor

/// The last frames that a network's causal convolutions have seen, by the layer's path: with them a video that
/// comes in chunks gives what it would give in one piece.
public struct FrameHistory: Sendable {
  /// How many chunks are done; counted by the network.
  public var chunk = 0
  private var frames: [String: [Tensor]] = [:]

  /// Before a video's first frame.
  public init() {}

  /// Single frames [1, H, W, C], the oldest first.
  public func frames(of path: String) -> [Tensor] { frames[path] ?? [] }

  /// Adds the frames x [F, H, W, C] to those of a layer and keeps the last `count`.
  public mutating func append(_ x: Tensor, keeping count: Int, of path: String) throws {
    var last = x
    if x.shape[0] > count {
      // A copy: a view would keep all of x alive.
      var (starts, sizes) = ([Int](repeating: 0, count: x.shape.rank), x.shape.dimensions)
      (starts[0], sizes[0]) = (x.shape[0] - count, count)
      last = try x.sliced(starts: starts, sizes: sizes)
    }
    let all = try frames(of: path) + last.frames()
    frames[path] = Array(all.suffix(count))
  }
}

extension Tensor {
  /// The rows of the first axis, one by one, sharing memory.
  fileprivate func frames() throws -> [Tensor] { try (0..<shape[0]).map { try rows($0..<$0 + 1) } }
}

/// A three-dimensional convolution over the frames of one video, causal: a frame sees itself and those before.
///
/// Frames are the batch axis of two-dimensional convolutions, one for each step in time, whose results are summed.
public struct Convolution3D: Sendable {
  /// One a frame that is seen, the oldest first.
  let taps: [Weight]
  let bias: Tensor
  let kernel: Extent2D
  /// Of the layer, under which a history keeps its frames.
  public let path: String

  /// Loads `weight` [outputs, inputs, frames, kernel, kernel] and `bias` [outputs]. An odd kernel keeps the
  /// picture's size.
  public init(_ weights: Weights, inputs: Int, outputs: Int, frames: Int, kernel: Int) throws {
    self.kernel = Extent2D(height: kernel, width: kernel)
    path = weights.layerPath
    taps = try weights.convolution3D(inputs: inputs, outputs: outputs, frames: frames, kernel: self.kernel)
    bias = try weights.tensor("bias", [outputs])
  }

  /// The frames x [F, H, W, inputs] of a chunk -> [F, H, W, outputs], plus the residual; before a video's first
  /// frame are zeros.
  public func callAsFunction(_ x: Tensor, history: inout FrameHistory, residual: Tensor? = nil) throws
    -> Tensor
  {
    let reach = taps.count - 1
    guard reach > 0 else { return try self(x, residual: residual) }
    return try layer(path) {
      let past = history.frames(of: path)
      try history.append(x, keeping: reach, of: path)
      let zeros = reach - past.count
      if x.shape[0] == 1 {
        // Each step in time sees one frame that lies there already, or nothing.
        return try self(x, after: [Tensor?](repeating: nil, count: zeros) + past, residual: residual)
      }
      var pieces = past + [x]
      if zeros > 0 {
        let shape = x.shape.replacing(axis: 0, with: zeros)
        pieces.insert(try .fill(0, shape, dtype: x.dtype, on: x.device), at: 0)
      }
      let stream = try Tensor.concatenated(pieces, axis: 0)
      let before = try (0..<reach).map { try stream.rows($0..<$0 + x.shape[0]) }
      return try self(x, after: before, residual: residual)
    }
  }

  /// x [F, H, W, inputs] and, for each step in time, what lies so far before each of its frames, the farthest
  /// first and nil for zeros -> [F, H, W, outputs].
  public func callAsFunction(_ x: Tensor, after past: [Tensor?] = [], residual: Tensor? = nil) throws
    -> Tensor
  {
    precondition(past.count == taps.count - 1)
    return try layer(path) {
      var sum = residual
      for (frames, tap) in zip(past, taps) {
        if let frames { sum = try product(frames, tap, bias: nil, residual: sum) }
      }
      return try product(x, taps[past.count], bias: bias, residual: sum)
    }
  }

  private func product(_ x: Tensor, _ tap: Weight, bias: Tensor?, residual: Tensor?) throws -> Tensor {
    if kernel == Extent2D(height: 1, width: 1) {
      return try x.matmul(tap, bias: bias, residual: residual)
    }
    let padding = Padding2D((kernel.height - 1) / 2)
    return try x.conv2d(tap, kernel: kernel, padding: padding, bias: bias, residual: residual)
  }
}
