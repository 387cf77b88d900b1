import CVectorMath
import LangevinTensor

/// Operations that compute each element from those at its place.
extension CPUBackend {
  func unary(_ function: Unary, _ x: FloatArray, _ y: MutableFloatArray) {
    let function = function.vectorised
    parallelFor(y.shape.count, grain: elementGrain) { _, range in
      vm_unary(function, x.pointer + range.lowerBound, y.pointer + range.lowerBound, range.count)
    }
  }

  func unaryGradient(_ function: Unary, _ x: FloatArray, _ g: FloatArray, _ y: MutableFloatArray) {
    let function = function.vectorised
    parallelFor(y.shape.count, grain: elementGrain) { _, range in
      let start = range.lowerBound
      vm_unary_gradient(function, x.pointer + start, g.pointer + start, y.pointer + start, range.count)
    }
  }

  func affine(_ scale: Float, _ offset: Float, _ x: FloatArray, _ y: MutableFloatArray) {
    parallelFor(y.shape.count, grain: elementGrain) { _, range in
      vm_affine(x.pointer + range.lowerBound, scale, offset, y.pointer + range.lowerBound, range.count)
    }
  }

  func clamp(_ lower: Float, _ upper: Float, _ x: FloatArray, _ y: MutableFloatArray) {
    parallelFor(y.shape.count, grain: elementGrain) { _, range in
      vm_clamp(x.pointer + range.lowerBound, lower, upper, y.pointer + range.lowerBound, range.count)
    }
  }

  func geglu(_ x: FloatArray, _ y: MutableFloatArray) {
    let width = y.shape[-1]
    parallelFor(y.shape.count / width, grain: max(elementGrain / width, 1)) { _, rows in
      for row in rows {
        let source = x.pointer + 2 * width * row
        vm_geglu(source, source + width, y.pointer + width * row, width)
      }
    }
  }

  func rotary(_ rotary: Rotary, _ x: [FloatArray], _ y: MutableFloatArray) {
    let (tokens, pairs) = (y.shape[1], x[1].shape[1])
    // Heads of all tokens.
    parallelFor(y.shape.count / (2 * pairs), grain: max(elementGrain / (2 * pairs), 1)) { _, heads in
      for head in heads {
        let angles = head / rotary.heads % tokens * pairs
        vm_rotary(
          x[0].pointer + head * 2 * pairs, x[1].pointer + angles, x[2].pointer + angles, pairs,
          rotary.pairs == .interleaved ? 1 : 0, y.pointer + head * 2 * pairs)
      }
    }
  }

  func linearCombination(_ coefficients: [Float], _ x: [FloatArray], _ y: MutableFloatArray) {
    // Pieces that stay in the first-level cache while the terms pass over them.
    parallelFor(y.shape.count, grain: 4096) { _, range in
      let out = y.pointer + range.lowerBound
      vm_scale(x[0].pointer + range.lowerBound, coefficients[0], out, range.count)
      for term in 1..<max(x.count, 1) {
        vm_accumulate(x[term].pointer + range.lowerBound, coefficients[term], out, range.count)
      }
    }
  }

  func binary(_ function: Binary, _ a: FloatArray, _ b: FloatArray, _ y: MutableFloatArray) {
    let function = function.vectorised
    if a.shape == b.shape {
      parallelFor(y.shape.count, grain: elementGrain) { _, range in
        let start = range.lowerBound
        vm_binary(function, a.pointer + start, 1, b.pointer + start, 1, y.pointer + start, range.count)
      }
      return
    }
    // Runs along the innermost merged axis, where each operand advances or stands still.
    let loop = StridedLoop(
      y.shape, [a.shape.broadcastStrides(to: y.shape), b.shape.broadcastStrides(to: y.shape)])
    let (inner, steps) = (loop.inner, loop.innerStrides)
    loop.forEachRow(grain: max(elementGrain / inner, 1)) { row, offsets in
      vm_binary(
        function, a.pointer + offsets[0], steps[0], b.pointer + offsets[1], steps[1], y.pointer + row * inner,
        inner)
    }
  }
}

extension Unary {
  var vectorised: vm_unary_function {
    switch self {
    case .silu: VM_SILU
    case .gelu: VM_GELU
    case .geluTanh: VM_GELU_TANH
    case .quickGelu: VM_QUICK_GELU
    case .sigmoid: VM_SIGMOID
    case .tanh: VM_TANH
    case .exp: VM_EXP
    case .log: VM_LOG
    case .sqrt: VM_SQRT
    case .rsqrt: VM_RSQRT
    case .sin: VM_SIN
    case .cos: VM_COS
    case .square: VM_SQUARE
    case .abs: VM_ABS
    case .negate: VM_NEGATE
    case .reciprocal: VM_RECIPROCAL
    }
  }
}

extension Binary {
  var vectorised: vm_binary_function {
    switch self {
    case .add: VM_ADD
    case .subtract: VM_SUBTRACT
    case .multiply: VM_MULTIPLY
    case .divide: VM_DIVIDE
    case .minimum: VM_MINIMUM
    case .maximum: VM_MAXIMUM
    case .less: VM_LESS
    case .equal: VM_EQUAL
    }
  }
}

extension Activation {
  /// Nil for the identity.
  var vectorised: vm_unary_function? {
    switch self {
    case .identity: nil
    case .silu: VM_SILU
    case .gelu: VM_GELU
    case .geluTanh: VM_GELU_TANH
    case .quickGelu: VM_QUICK_GELU
    }
  }
}
