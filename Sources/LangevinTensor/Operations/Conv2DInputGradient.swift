extension Conv2D {
  /// dx [N, H, W, C] of g [N, H', W', O] and the stored weight.
  ///
  /// Pixels of x that are `stride` apart meet the same taps. Each such phase is a convolution of g, of stride 1, with its
  /// taps in reverse order; together they cost what the forward pass costs. (Dumoulin and Visin, arXiv:1603.07285,
  /// section 4, puts zeros between g's pixels instead: stride² times the products.)
  func inputGradient(_ g: Tensor, _ weight: Tensor, like x: Shape) throws -> Tensor {
    // What was in blocks is float32.
    let matrix = try self.weight.rowMajor(weight, inner: taps * x[3], taps: taps).cast(to: g.dtype)
    func phases(_ size: Int, _ taps: Int, _ padding: Int) -> [Phase] {
      (0..<stride).map {
        Phase($0, stride: stride, taps: taps, padding: padding, size: size)
      }
    }
    let columns = phases(x[2], kernel.width, padding.left)
    let rows = try phases(x[1], kernel.height, padding.top).map { row in
      // [N, H / s, W / s * s, C]
      try Self.interleaved(columns.map { try phase(g, matrix, row, $0, channels: x[3]) }, axis: 2)
    }
    let all = try Self.interleaved(rows, axis: 1)
    guard all.shape != x else { return all }
    return try all.sliced(starts: [0, 0, 0, 0], sizes: x.dimensions)
  }

  /// The pixels `first`, `first` + stride, … of x along an axis, and which of g's pixels they meet.
  private struct Phase {
    /// The taps that meet these pixels, by where they lie in the kernel, last first.
    let taps: [Int]
    /// How many pixels; where x ends before the others' last one, one more than it has.
    let count: Int
    /// The pixel of g that the first pixel's first tap meets; negative where it lies before g.
    let start: Int

    init(_ first: Int, stride: Int, taps: Int, padding: Int, size: Int) {
      let place = first + padding
      self.taps = Swift.stride(from: place % stride, to: taps, by: stride).reversed()
      count = (size + stride - 1) / stride
      start = place / stride - (self.taps.count - 1)
    }

    /// How much of g's `size` pixels the windows leave out, and how far they reach beyond it, before and behind.
    func reach(_ size: Int) -> (cut: (Int, Int), padding: (Int, Int)) {
      let behind = start + count + taps.count - 1 - size
      return ((max(0, start), max(0, -behind)), (max(0, -start), max(0, behind)))
    }
  }

  private func phase(_ g: Tensor, _ matrix: Tensor, _ row: Phase, _ column: Phase, channels: Int) throws
    -> Tensor
  {
    let (images, outputs) = (g.shape[0], g.shape[3])
    let (vertical, horizontal) = (row.reach(g.shape[1]), column.reach(g.shape[2]))
    let height = g.shape[1] - vertical.cut.0 - vertical.cut.1
    let width = g.shape[2] - horizontal.cut.0 - horizontal.cut.1
    // No window saw these pixels, or none within g.
    guard !row.taps.isEmpty, !column.taps.isEmpty, height > 0, width > 0 else {
      return try Tensor.fill(0, [images, row.count, column.count, channels], dtype: g.dtype, on: g.device)
    }
    let whole: Shape = [images, height, width, outputs]
    let seen =
      try whole == g.shape
      ? g : g.sliced(starts: [0, vertical.cut.0, horizontal.cut.0, 0], sizes: whole.dimensions)
    let taps = try row.taps.flatMap { y in
      try column.taps.map { x in
        let tap = y * kernel.width + x
        return try matrix.rows(tap * channels..<(tap + 1) * channels)
      }
    }
    // [taps * C, O] -> [taps * O, C]
    let turned = try Tensor.concatenated(taps, axis: 0).reshaped([taps.count, channels, outputs])
      .transposed([0, 2, 1]).reshaped([taps.count * outputs, channels])
    let conv = Conv2D(
      kernel: Extent2D(height: row.taps.count, width: column.taps.count),
      padding: Padding2D(
        top: vertical.padding.0, left: horizontal.padding.0, bottom: vertical.padding.1,
        right: horizontal.padding.1))
    return try Tensor.apply(.conv2d(conv), [seen, turned])
  }

  /// Tensors of one shape to one whose pixels along an axis come from each of them in turn.
  private static func interleaved(_ parts: [Tensor], axis: Int) throws -> Tensor {
    guard parts.count > 1, let shape = parts.first?.shape else { return parts[0] }
    // Beside each pixel lie its neighbours: [.., W, C] -> [.., W, s * C] -> [.., W * s, C].
    var flat = Array(shape.dimensions[..<(axis + 1)])
    flat.append(shape.dimensions[(axis + 1)...].reduce(1, *))
    let joined = try Tensor.concatenated(parts.map { try $0.reshaped(Shape(flat)) }, axis: axis + 1)
    return try joined.reshaped(shape.replacing(axis: axis, with: shape[axis] * parts.count))
  }
}
