import LangevinTensor

extension Tensor {
  /// Pictures [N, H, W, C] in another size, [N, height, width, C], by antialiased bicubic interpolation: PyTorch's
  /// `interpolate(mode: "bicubic", antialias: True)`, which is `Picture.resized` without its rounding.
  func resizedBicubic(height: Int, width: Int) throws -> Tensor {
    precondition(shape.rank == 4 && height > 0 && width > 0)
    let (count, rows, columns, channels) = (shape[0], shape[1], shape[2], shape[3])
    // One axis at a time, as the outermost of a matrix.
    let first = count == 1 ? self : try transposed([1, 0, 2, 3])
    let tall = try matrix(from: rows, to: height).matmul(first.reshaped([rows, count * columns * channels]))
    let turned = try tall.reshaped([height * count, columns, channels]).transposed([1, 0, 2])
    let wide = try matrix(from: columns, to: width)
      .matmul(turned.reshaped([columns, height * count * channels]))
    return try wide.reshaped([width, height, count, channels]).transposed([2, 1, 0, 3])
  }

  /// [count, length]: the weights of each pixel of a resized axis.
  private func matrix(from length: Int, to count: Int) throws -> Tensor {
    var values = [Float](repeating: 0, count: count * length)
    for (row, tap) in ResizeFilter.bicubic.taps(from: length, to: count).enumerated() {
      for (index, weight) in tap.weights.enumerated() {
        values[row * length + tap.first + index] = Float(weight)
      }
    }
    return try Tensor(values, [count, length], on: device).cast(to: dtype)
  }
}
