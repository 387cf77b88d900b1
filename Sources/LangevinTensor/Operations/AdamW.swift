/// A step of AdamW on the state of one parameter, four tensors of its shape one after another: its value, the mean of
/// the gradients, the mean of their squares, and the average of the values.
///
/// With g the scaled gradient: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `p = p - rate (m / c1 / (sqrt(v / c2) + epsilon) + decay p)`, `e = d e + (1 - d) p`. arXiv:1711.05101, algorithm 2;
/// PyTorch's `torch.optim.AdamW`.
public struct AdamW: Sendable, Hashable, Codable {
  /// What the step is multiplied by.
  public var rate: Float
  /// How much of the mean of the gradients stays.
  public var beta1: Float
  /// How much of the mean of their squares stays.
  public var beta2: Float
  /// Added to the root.
  public var epsilon: Float
  /// How fast the value goes to zero by itself, in units of the rate.
  public var decay: Float
  /// `1 - beta1^t` at step t, counted from 1: the mean began at zero.
  public var correction1: Float
  /// `1 - beta2^t` at step t.
  public var correction2: Float
  /// How much of the average of the values stays; 0 makes it the value.
  public var averaging: Float

  /// The step with this number, counted from 1.
  public init(
    step: Int, rate: Float, beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8,
    decay: Float = 0.01,
    averaging: Float = 0
  ) {
    (self.rate, self.beta1, self.beta2, self.epsilon) = (rate, beta1, beta2, epsilon)
    (self.decay, self.averaging) = (decay, averaging)
    func correction(_ beta: Float) -> Float {
      var power = 1.0
      for _ in 0..<max(step, 1) { power *= Double(beta) }
      return Float(1 - power)
    }
    correction1 = correction(beta1)
    correction2 = correction(beta2)
  }
}

extension AdamW: OperationDefinition {
  public var operationKind: Operation.Kind { .adamW }
  public var family: OperationFamily { .elements }

  public func operand(_ index: Int) -> OperandDefinition {
    switch index {
    case 0: OperandDefinition("state", domain: .positive, isAlwaysFloat32: true)
    case 1: OperandDefinition("gradient")
    default: OperandDefinition("scale", isAlwaysFloat32: true)
    }
  }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(3)
    let (state, gradient) = (inputs[0], inputs[1])
    try inputs.require(
      inputs.inputs[0].dtype == .float32 && inputs.inputs[1].dtype.isFloatingPoint
        && inputs.inputs[2] == TensorSpec([1]),
      "needs a float32 state, a floating-point gradient and a float32 scale [1]")
    try inputs.require(state == Shape([4] + gradient.dimensions), "the state must be four times the gradient")
    return inputs.inputs[0]
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(flops: 18 * Double(inputs[1].shape.count), inputs, output)
  }

  public var decomposition: Decomposition? {
    { inputs in
      let parts = try (0..<4).map { try inputs[0].rows($0..<$0 + 1) }
      let g = try inputs[1].reshaped(parts[0].shape) * inputs[2]
      let mean = try parts[1] * beta1 + g * (1 - beta1)
      let square = try parts[2] * beta2 + g * g * (1 - beta2)
      let root = try (square / correction2).map(.sqrt) + epsilon
      let value = try parts[0] * (1 - rate * decay) - mean / correction1 / root * rate
      let average = try parts[3] * averaging + value * (1 - averaging)
      return try Tensor.concatenated([value, mean, square, average], axis: 0)
    }
  }

  public var gradient: GradientRule { .undefined }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    let count = inputs[1].shape.count
    return .elements { inputs, i, value in
      let (place, u) = (i % max(count, 1), 0x1p-24)
      let (state, g) = (inputs[0], inputs[1][place] * inputs[2][0])
      let (kept, added) = (Double(beta1) * state[count + place], (1 - Double(beta1)) * g)
      let (keptSquare, addedSquare) = (
        Double(beta2) * state[2 * count + place], (1 - Double(beta2)) * g * g
      )
      let meanError = 4 * u * (abs(kept) + abs(added))
      if i / count == 1 { return meanError }
      if i / count == 2 { return 6 * u * (keptSquare + addedSquare) }
      let root = ((keptSquare + addedSquare) / Double(correction2)).squareRoot() + Double(epsilon)
      let step = Double(rate) / Double(correction1) / root
      let valueError =
        4 * u * abs(state[place]) + step * (meanError + 16 * u * (abs(kept) + abs(added)))
      if i / count == 0 { return valueError + u * abs(value) }
      return valueError + 4 * u * (abs(state[3 * count + place]) + abs(value)) + 4 * u * abs(state[place])
    }
  }

  public var locality: Locality { .whole }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.adamW(self)) }
  public var representative: Operation { .adamW(self) }
}
