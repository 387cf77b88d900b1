import LangevinTensor

/// A part of a large case that float64 can follow: the same operation on fewer rows, columns, heads or groups,
/// cut out of the same operands, so that `Reference` and `Tolerance` serve both.
struct Restriction {
  let operation: Operation
  let inputs: [HostArray]
  /// Which element of the whole output each element of the part is.
  let elements: [Int]
  /// Of a left operand that was rounded; see `Int8Reference`.
  var ties: HostArray?

  /// Parts that hold random elements and the last row and column. One part, the whole, where nothing can be left
  /// out: for reductions, constants and counts. The elements `including` are among them; of a batched product only
  /// those of the first one's matrix.
  static func sample(
    _ operation: Operation, _ inputs: [Operand], output: TensorSpec, seed: UInt64, including: [Int] = []
  ) -> [Restriction] {
    guard output.shape.count > 0 else { return [] }
    var chooser = Chooser(generator: Generator(seed: seed), wanted: including)
    switch operation.definition.locality {
    case .product(let matmul): return [product(matmul, inputs, output.shape, &chooser)]
    case .convolution(let conv): return [convolution(conv, inputs, output.shape, &chooser)]
    case .channels(let conv): return [channels(conv, operation, inputs, &chooser)]
    case .heads(let attention): return heads(attention, inputs, &chooser)
    case .groups(let norm): return groups(norm, inputs, chooser.wanted)
    case .groupGradients(let norm): return groupGradients(norm, inputs, chooser.wanted)
    case .rows: return [rows(operation, inputs, &chooser)]
    case .tokens: return [tokens(operation, inputs, &chooser)]
    case .halves:
      let elements = chooser.elements(of: output.shape)
      let width = output.shape[-1]
      let places = elements.flatMap { element in
        let first = element / width * 2 * width + element % width
        return [first, first + width]
      }
      let x = inputs[0].gathered(places, [elements.count, 2])
      return [Restriction(operation: operation, inputs: [x], elements: elements)]
    case .elements:
      let elements = chooser.elements(of: output.shape)
      let parts = inputs.map { input in
        let place = Reference.broadcastPlace(input.spec.shape, output.shape)
        return input.gathered(elements.map(place), [elements.count])
      }
      return [Restriction(operation: operation, inputs: parts, elements: elements)]
    case .whole, .moved:
      return [
        Restriction(
          operation: operation, inputs: inputs.map(\.array), elements: Array(0..<output.shape.count))
      ]
    }
  }

  /// Element (row, column) of one right operand, logically [rows, columns].
  private static func right(
    _ layout: MatrixLayout, _ row: Int, _ column: Int, rows: Int, columns: Int, taps: Int = 1
  ) -> Int {
    switch layout {
    case .rowMajor, .packed: return row * columns + column
    case .transposed: return column * rows + row
    case .blocks, .int8Blocks:
      let channels = rows / taps
      return (column * channels + row % channels) * taps + row / channels
    }
  }

  /// The numbers of a right operand at these places, stored as the left one: what is in blocks stays exact.
  private static func numbers(
    _ layout: MatrixLayout, _ b: Operand, _ places: [Int], _ shape: Shape, like dtype: DType
  ) -> HostArray {
    guard let encoding = layout.encoding else { return b.gathered(places, shape) }
    return HostArray(TensorSpec(shape, dtype), b.decoded(encoding).gathered(places, shape).values)
  }

  /// The left operand as a product with a weight of that layout takes it, and its ties where it is rounded.
  private static func rounded(_ x: HostArray, for layout: MatrixLayout) -> (HostArray, ties: HostArray?) {
    layout == .int8Blocks ? (Int8Reference.rounded(x), Int8Reference.ties(x)) : (x, nil)
  }

  /// The operands of an epilogue at these rows and columns of an output [rows, `width`].
  private static func extras(
    _ epilogue: Epilogue, _ inputs: [Operand], _ rows: [Int], _ columns: [Int], width: Int, rowsPerImage: Int
  ) -> (Epilogue, [HostArray]) {
    let operands = epilogue.operands(inputs)
    let shape: Shape = [rows.count, columns.count]
    // A vector for each image is a residual to the rows that were cut out of it.
    let perImage = operands.perImage.map { operand in
      operand.gathered(rows.flatMap { row in columns.map { row / rowsPerImage * width + $0 } }, shape)
    }
    let residual = operands.residual.map { operand in
      operand.gathered(rows.flatMap { row in columns.map { row * width + $0 } }, shape)
    }
    var added = perImage ?? residual
    if let perImage, let residual {
      added = HostArray(residual.spec, zip(perImage.values, residual.values).map { $0 + $1 })
    }
    var plain = epilogue
    plain.perImage = false
    plain.residual = added != nil
    return (plain, [operands.bias?.gathered(columns, [columns.count]), added].compactMap { $0 })
  }

  private static func product(
    _ matmul: MatMul, _ inputs: [Operand], _ output: Shape, _ chooser: inout Chooser
  ) -> Restriction {
    let (a, b) = (inputs[0], inputs[1])
    let size = matmul.size(left: a.spec.shape, right: b.spec.shape)
    let (n, k, perMatrix) = (size.columns, size.inner, size.rows)
    // Of a batch its last matrix, or the one that is asked for.
    let first = chooser.wanted.first.map { $0 / n / perMatrix * perMatrix } ?? output.count / n - perMatrix
    let rows = chooser.indices(below: perMatrix, count: 32) { $0 / n - first }.map { first + $0 }
    let columns = chooser.indices(below: n, count: 32) { $0 % n }
    let matrix = first / max(perMatrix, 1)
    let left = rows.flatMap { row in
      (0..<k).map { l in
        matmul.transposeLeft ? matrix * perMatrix * k + l * perMatrix + row - first : row * k + l
      }
    }
    let right = (0..<k).flatMap { row in
      columns.map { matrix * k * n + self.right(matmul.right, row, $0, rows: k, columns: n) }
    }
    let (epilogue, rest) = extras(matmul.epilogue, inputs, rows, columns, width: n, rowsPerImage: 1)
    let (numbersOfLeft, ties) = rounded(a.gathered(left, [rows.count, k]), for: matmul.right)
    return Restriction(
      operation: .matmul(MatMul(scale: matmul.scale, epilogue: epilogue)),
      inputs: [
        numbersOfLeft, numbers(matmul.right, b, right, [k, columns.count], like: a.spec.dtype),
      ] + rest,
      elements: rows.flatMap { row in columns.map { row * n + $0 } }, ties: ties)
  }

  /// Each chosen pixel's window becomes a row of a product.
  private static func convolution(
    _ conv: Conv2D, _ inputs: [Operand], _ output: Shape, _ chooser: inout Chooser
  ) -> Restriction {
    let (x, n) = (inputs[0].spec.shape, output[3])
    let (height, width, channels) = (x[1], x[2], x[3])
    let k = conv.taps * channels
    let pixels = chooser.indices(below: output.count / n, count: 32) { $0 / n }
    let columns = chooser.indices(below: n, count: 32) { $0 % n }
    var windows: [Double] = []
    windows.reserveCapacity(pixels.count * k)
    for pixel in pixels {
      let index = Shape([output[0], output[1], output[2]]).index(of: pixel)
      for tap in 0..<conv.taps {
        let line = index[1] * conv.stride - conv.padding.top + tap / conv.kernel.width
        let column = index[2] * conv.stride - conv.padding.left + tap % conv.kernel.width
        let isInside = (0..<height).contains(line) && (0..<width).contains(column)
        let start = ((index[0] * height + line) * width + column) * channels
        for channel in 0..<channels { windows.append(isInside ? inputs[0][start + channel] : 0) }
      }
    }
    let weight = (0..<k).flatMap { row in
      columns.map { right(conv.weight, row, $0, rows: k, columns: n, taps: conv.taps) }
    }
    let (epilogue, rest) = extras(
      conv.epilogue, inputs, pixels, columns, width: n, rowsPerImage: output[1] * output[2])
    let dtype = inputs[0].spec.dtype
    let (left, ties) = rounded(HostArray(TensorSpec([pixels.count, k], dtype), windows), for: conv.weight)
    return Restriction(
      operation: .matmul(MatMul(epilogue: epilogue)),
      inputs: [left, numbers(conv.weight, inputs[1], weight, [k, columns.count], like: dtype)] + rest,
      elements: pixels.flatMap { pixel in columns.map { pixel * n + $0 } }, ties: ties)
  }

  /// A few queries of the first head of the first image and of the last of the last.
  private static func heads(_ attention: Attention, _ inputs: [Operand], _ chooser: inout Chooser)
    -> [Restriction]
  {
    let (q, k) = (inputs[0].spec.shape, inputs[1].spec.shape)
    let (queries, keys, channels) = (q[1], k[1], q[2])
    let size = channels / attention.heads
    guard size > 0 else { return [] }
    /// Counted over all images.
    func head(_ element: Int) -> Int {
      element / (queries * channels) * attention.heads + element % channels / size
    }
    let heads = Set([0, q[0] * attention.heads - 1] + chooser.wanted.map(head)).sorted()
    return heads.map { index in
      let (image, head) = (index / attention.heads, index % attention.heads)
      let rows = chooser.indices(below: queries, count: keys * size > 1 << 20 ? 8 : 16) {
        $0 / channels - image * queries
      }
      func cut(_ operand: Operand, _ tokens: [Int], of count: Int) -> HostArray {
        let places = tokens.flatMap { token in
          (0..<size).map { (image * count + token) * channels + head * size + $0 }
        }
        return operand.gathered(places, [1, tokens.count, size])
      }
      let every = Array(0..<keys)
      var parts = [
        cut(inputs[0], rows, of: queries), cut(inputs[1], every, of: keys), cut(inputs[2], every, of: keys),
      ]
      if attention.mask || attention.causal {
        let start = attention.mask && inputs[3].spec.shape.rank == 3 ? image * queries * keys : 0
        let values = rows.flatMap { row in
          every.map { key in
            attention.causal && key > row
              ? -Double.infinity : attention.mask ? inputs[3][start + row * keys + key] : 0
          }
        }
        parts.append(HostArray(TensorSpec([rows.count, keys], inputs[0].spec.dtype), values))
      }
      return Restriction(
        operation: .attention(Attention(heads: 1, scale: attention.scale, mask: parts.count > 3)),
        inputs: parts,
        elements: rows.flatMap { row in
          (0..<size).map { (image * queries + row) * channels + head * size + $0 }
        })
    }
  }

  /// The gradient of a weight of fewer channels and columns, over all pixels.
  private static func channels(
    _ conv: Conv2D, _ operation: Operation, _ inputs: [Operand], _ chooser: inout Chooser
  ) -> Restriction {
    let (x, g) = (inputs[0].spec.shape, inputs[1].spec.shape)
    let channels = chooser.indices(below: x[3], count: 8) { $0 / g[3] % x[3] }
    let columns = chooser.indices(below: g[3], count: 8) { $0 % g[3] }
    func gather(_ operand: Operand, _ chosen: [Int]) -> HostArray {
      let shape = operand.spec.shape
      let pixels = 0..<shape.count / shape[3]
      return operand.gathered(
        pixels.flatMap { pixel in chosen.map { pixel * shape[3] + $0 } },
        shape.replacing(axis: 3, with: chosen.count))
    }
    return Restriction(
      operation: operation, inputs: [gather(inputs[0], channels), gather(inputs[1], columns)],
      elements: (0..<conv.taps).flatMap { tap in
        channels.flatMap { channel in columns.map { (tap * x[3] + channel) * g[3] + $0 } }
      })
  }

  /// The first group of the first image and the last of the last, and those of the wanted elements.
  private static func groups(_ norm: GroupNorm, _ inputs: [Operand], _ wanted: [Int]) -> [Restriction] {
    let shape = inputs[0].spec.shape
    let (images, channels) = (shape[0], shape[-1])
    let (width, pixels) = (channels / norm.groups, shape.count / images / channels)
    let groups = Set(
      [0, images * norm.groups - 1] + wanted.map { Reference.group(norm, shape, $0) }
    ).sorted()
    return groups.map { index in
      let (image, group) = (index / norm.groups, index % norm.groups)
      let own = (group * width)..<(group + 1) * width
      let elements = (0..<pixels).flatMap { pixel in own.map { (image * pixels + pixel) * channels + $0 } }
      var single = norm
      single.groups = 1
      return Restriction(
        operation: .groupNorm(single),
        inputs: [
          inputs[0].gathered(elements, [1, pixels, width]), inputs[1].gathered(Array(own), [width]),
          inputs[2].gathered(Array(own), [width]),
        ], elements: elements)
    }
  }

  /// The first group, the last, and those of the wanted elements: dx, and then their part of dgamma and dbeta.
  private static func groupGradients(
    _ norm: GroupNorm, _ inputs: [Operand], _ wanted: [Int]
  ) -> [Restriction] {
    let shape = inputs[0].spec.shape
    let (images, channels, width) = (shape[0], shape[-1], shape[-1] / norm.groups)
    let rows = shape.count / channels
    let groups = Set([0, norm.groups - 1] + wanted.map { $0 % channels / width }).sorted()
    return groups.map { group in
      let own = (group * width)..<(group + 1) * width
      // dgamma and dbeta are two more rows.
      let elements = (0..<rows + 2).flatMap { row in own.map { row * channels + $0 } }
      let places = Array(elements.prefix(rows * width))
      var single = norm
      single.groups = 1
      let part: Shape = [images, rows / images, width]
      return Restriction(
        operation: .groupNormGradient(single),
        inputs: [
          inputs[0].gathered(places, part), inputs[1].gathered(Array(own), [width]),
          inputs[2].gathered(Array(own), [width]), inputs[3].gathered(places, part),
        ], elements: elements)
    }
  }

  /// Whole tokens, as those of one image, and their angles.
  private static func tokens(_ operation: Operation, _ inputs: [Operand], _ chooser: inout Chooser)
    -> Restriction
  {
    let (x, pairs) = (inputs[0].spec.shape, inputs[1].spec.shape[1])
    let rows = chooser.indices(below: x[0] * x[1], count: 64) { $0 / x[2] }
    func gather(_ operand: Operand, _ width: Int, _ place: (Int) -> Int) -> HostArray {
      let places = rows.map(place).flatMap { $0 * width..<($0 + 1) * width }
      return operand.gathered(places, [rows.count, width])
    }
    let tokens = gather(inputs[0], x[2]) { $0 }
    return Restriction(
      operation: operation,
      inputs: [HostArray(TensorSpec([1, rows.count, x[2]], tokens.dtype), tokens.values)]
        + inputs.dropFirst().map { table in gather(table, pairs) { $0 % x[1] } },
      elements: rows.flatMap { $0 * x[2]..<($0 + 1) * x[2] })
  }

  /// Whole rows, and all of what serves every row.
  private static func rows(_ operation: Operation, _ inputs: [Operand], _ chooser: inout Chooser)
    -> Restriction
  {
    let width = inputs[0].spec.shape[-1]
    let rows = chooser.indices(below: inputs[0].spec.shape.count / width, count: 64) { $0 / width }
    let elements = rows.flatMap { row in (row * width)..<(row + 1) * width }
    return Restriction(
      operation: operation,
      inputs: [inputs[0].gathered(elements, [rows.count, width])] + inputs.dropFirst().map(\.array),
      elements: elements)
  }
}

/// Draws what is looked at.
private struct Chooser {
  var generator: Generator
  /// Elements of the output that must be there.
  let wanted: [Int]

  /// Ascending: the first, the last, those of the wanted elements and random ones between, or all where there are
  /// not more.
  mutating func indices(below limit: Int, count: Int, of index: (Int) -> Int) -> [Int] {
    guard limit > count else { return Array(0..<limit) }
    var chosen = Set([0, limit - 1] + wanted.map(index).filter { (0..<limit).contains($0) })
    while chosen.count < count { chosen.insert(Int(generator.next() % UInt64(limit))) }
    return chosen.sorted()
  }

  /// Random elements, and ones of the last row and of the last column.
  mutating func elements(of shape: Shape) -> [Int] {
    let width = shape.rank > 0 ? shape[-1] : 1
    let rows = shape.count / width
    let row = indices(below: width, count: 512) { $0 % width }.map { (rows - 1) * width + $0 }
    let column = indices(below: rows, count: 512) { $0 / width }.map { $0 * width + width - 1 }
    return Set(indices(below: shape.count, count: 4096) { $0 } + row + column).sorted()
  }
}
