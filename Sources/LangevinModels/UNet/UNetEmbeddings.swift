import LangevinNN
import LangevinTensor

/// The time embedding of a UNet with everything that is added to it.
struct UNetEmbeddings: Sendable {
  struct Shape: Sendable, Hashable {
    var sinusoid: Sinusoid
    var outputs: Int
    var conditionChannels: Int?
    var classes: UNetClassEmbedding?
    var textTime: UNetTextTimeSize?
  }

  enum ClassEmbedding: Sendable {
    case table(Embedding, count: Int)
    case timestep(TimestepEmbedding)
    case identity
    case projection(EmbeddingPerceptron)
    case simpleProjection(Linear)
  }

  let shape: Shape
  let time: TimestepEmbedding
  let classes: ClassEmbedding?
  let textTime: EmbeddingPerceptron?
  let model: String
  let dtype: DType
  let device: Device

  /// `model` is for messages.
  init(_ weights: Weights, _ shape: Shape, model: String) throws {
    self.shape = shape
    self.model = model
    (dtype, device) = (weights.dtype, weights.device)
    time = try TimestepEmbedding(
      weights["time_embedding"], sinusoid: shape.sinusoid, outputs: shape.outputs,
      conditionChannels: shape.conditionChannels)
    let classWeights = weights["class_embedding"]
    classes = try shape.classes.map {
      switch $0 {
      case .table(let count):
        .table(try Embedding(classWeights, count: count, channels: shape.outputs), count: count)
      case .timestep:
        .timestep(
          try TimestepEmbedding(classWeights, sinusoid: shape.sinusoid, outputs: shape.outputs))
      case .identity: .identity
      case .projection(let inputs):
        .projection(try EmbeddingPerceptron(classWeights, inputs: inputs, outputs: shape.outputs))
      case .simpleProjection(let inputs):
        .simpleProjection(try Linear(classWeights, inputs: inputs, outputs: shape.outputs))
      }
    }
    textTime = try shape.textTime.map {
      try EmbeddingPerceptron(weights["add_embedding"], inputs: $0.inputs, outputs: shape.outputs)
    }
  }

  /// One timestep an image -> [N, outputs], with SiLU applied: all its users want it so.
  ///
  /// Throws `ModelError.invalidInput` where a part is missing, superfluous or of the wrong size.
  func callAsFunction(
    _ timesteps: [Float], classLabels: UNetClassLabels?, textTime: UNetTextTime? = nil,
    condition: Tensor? = nil
  ) throws -> Tensor {
    try check(condition, count: timesteps.count)
    let parts = try [
      classVector(classLabels, count: timesteps.count), textTimeVector(textTime, count: timesteps.count),
    ].compactMap { $0 }
    let sum = parts.count == 2 ? try parts[0] + parts[1] : parts.first
    return try time(timesteps, condition: condition, residual: sum, activation: .silu)
  }

  // MARK: Class labels

  private func classVector(_ labels: UNetClassLabels?, count: Int) throws -> Tensor? {
    guard let classes else {
      try require(labels == nil, "it takes no class labels")
      return nil
    }
    guard let labels else { throw invalid("it needs class labels") }
    switch (classes, labels) {
    case (.table(let table, let classCount), .numbers(let numbers)):
      try require(numbers.count == count, "\(numbers.count) class labels for \(count) images")
      let ids = try numbers.map { number in
        guard let id = Int32(exactly: number), (0..<classCount).contains(Int(id)) else {
          throw invalid("class \(number) is not one of 0 to \(classCount - 1)")
        }
        return id
      }
      return try table(Tensor(ids, [count], on: device))
    case (.timestep(let embedding), .numbers(let numbers)):
      try require(numbers.count == count, "\(numbers.count) class labels for \(count) images")
      return try embedding(numbers, activation: .identity)
    case (.identity, .vectors(let vectors)):
      try check(vectors, "class labels", [count, shape.outputs])
      return vectors
    case (.projection(let perceptron), .vectors(let vectors)):
      try check(vectors, "class labels", [count, inputs])
      return try perceptron(vectors)
    case (.simpleProjection(let linear), .vectors(let vectors)):
      try check(vectors, "class labels", [count, inputs])
      return try linear(vectors)
    case (.table, .vectors), (.timestep, .vectors): throw invalid("its class labels are numbers")
    case (.identity, .numbers), (.projection, .numbers), (.simpleProjection, .numbers):
      throw invalid("its class labels are vectors")
    }
  }

  private var inputs: Int {
    switch shape.classes {
    case .projection(let inputs)?, .simpleProjection(let inputs)?: inputs
    default: shape.outputs
    }
  }

  // MARK: Text and time ids

  private func textTimeVector(_ input: UNetTextTime?, count: Int) throws -> Tensor? {
    guard let textTime, let size = shape.textTime else {
      try require(input == nil, "it takes no pooled text")
      return nil
    }
    guard let input else { throw invalid("it needs pooled text and time ids") }
    let ids = input.timeIDs
    try require(
      ids.count == count && ids.allSatisfy { $0.count == ids[0].count },
      "time ids for \(ids.count) images where there are \(count), or not the same number for each")
    let idChannels = (ids.first?.count ?? 0) * size.timeIDChannels
    try check(input.textEmbeds, "pooled text", [count, size.inputs - idChannels])
    let sinusoid = Sinusoid(
      channels: size.timeIDChannels, flipped: shape.sinusoid.flipped, shift: shape.sinusoid.shift)
    let values = ids.flatMap { $0.flatMap { sinusoid($0) } }
    let sizes = try Tensor(values, [count, idChannels], on: device).cast(to: dtype)
    return try textTime(Tensor.concatenated([input.textEmbeds, sizes], axis: -1))
  }

  // MARK: Checks

  private func check(_ condition: Tensor?, count: Int) throws {
    guard let condition else { return }
    guard let channels = shape.conditionChannels else { throw invalid("it takes no timestep condition") }
    try check(condition, "timestep condition", [count, channels])
  }

  private func check(_ tensor: Tensor, _ what: String, _ expected: LangevinTensor.Shape) throws {
    try require(tensor.shape == expected, "\(what) \(tensor.shape), the network takes \(expected)")
  }

  private func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
    if !condition { throw invalid(reason()) }
  }

  private func invalid(_ reason: String) -> ModelError { .invalidInput(model: model, reason: reason) }
}
