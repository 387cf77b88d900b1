import LangevinNN
import LangevinTensor
import Synchronization

/// How a run trains, whatever it trains.
public struct TrainerSettings: Sendable, Hashable {
  /// Samples of a step, over all ranks.
  public var batch: Int
  /// Parts in which a rank computes its share of a batch, one after another.
  public var accumulation = 1
  /// The rate of each step.
  public var rate: LearningRate
  /// How much of the mean of the gradients stays, and of that of their squares.
  public var (beta1, beta2): (Float, Float) = (0.9, 0.999)
  /// Added to the root of the mean of squares.
  public var epsilon: Float = 1e-8
  /// How fast values go to zero by themselves, in units of the rate.
  public var weightDecay: Float = 0.01
  /// Gradients longer than this are shortened to it, all together; nil leaves them.
  public var maxGradientNorm: Float? = 1
  /// How much of the average of the values stays in the long run; 0 averages nothing.
  public var averaging: Float = 0
  /// How parameters and activations are stored; masters, gradients' sums and states are always float32.
  public var precision = DType.float32
  /// Whether blocks keep their inputs alone, and are computed once more on the way back: less memory, more time.
  public var recomputes = false

  /// PyTorch's defaults for AdamW, and gradients of at most 1.
  public init(batch: Int, rate: LearningRate) { (self.batch, self.rate) = (batch, rate) }
}

/// What a step did.
public struct StepReport: Sendable, Hashable {
  /// How many steps are done with it.
  public var step: Int
  /// The mean over the batch, before the step.
  public var loss: Float
  /// The length of all gradients together, before they were shortened.
  public var gradientNorm: Float
  /// The step's rate.
  public var rate: Float
}

/// Takes one step of AdamW after another.
///
/// A step is a function of the parameters, the seed and the samples' numbers: the same bits each time.
public struct Trainer<Task: TrainingTask> {
  /// What is trained.
  public let task: Task
  /// How.
  public let settings: TrainerSettings
  /// What was learnt so far.
  public private(set) var parameters: TrainedParameters
  /// How many steps were taken.
  public private(set) var completedSteps = 0
  /// What a float16 loss is multiplied by, so that small gradients do not vanish. arXiv:1710.03740, section 3.2.
  public private(set) var lossScale: Float

  /// Takes the place of the task's own batches where they are prepared ahead.
  public var batches: @Sendable (Range<UInt64>) throws -> Task.Batch

  private let device: Device
  /// What is not trained of each network: read and packed once.
  private let frozen: [String: KeptWeights]
  private let collective: any Collective

  /// After each so many steps the loss's scale is tried twice as large.
  private static var growthInterval: Int { 1000 }

  /// Throws `TrainingError.batch`, `.indivisibleLoss`, `.nothingToTrain`, and what loading the networks throws.
  public init(
    _ task: Task, _ settings: TrainerSettings, on device: Device, collective: any Collective = Alone()
  ) throws {
    let parts = settings.accumulation * collective.count
    guard settings.batch > 0, parts > 0, settings.batch % parts == 0 else {
      throw TrainingError.batch(
        size: settings.batch, accumulation: settings.accumulation, ranks: collective.count)
    }
    guard task.isMeanOfSamples || task.comparison != nil || parts == 1 else {
      throw TrainingError.indivisibleLoss
    }
    (self.task, self.settings, self.device, self.collective) = (task, settings, device, collective)
    batches = { try task.batch($0) }
    parameters = try TrainedParameters(task.networks, on: device)
    frozen = Dictionary(
      uniqueKeysWithValues: task.networks.map { network in
        (network.name, KeptWeights { !network.isTrained($0) })
      })
    lossScale = settings.precision == .float16 ? 0x1p15 : 1
  }

  /// Goes on from a state that was kept after so many steps. Throws `TrainingError.stateMismatch`.
  public mutating func restore(_ states: [String: Tensor], completedSteps: Int, lossScale: Float? = nil)
    throws
  {
    try parameters.restore(states)
    self.completedSteps = completedSteps
    self.lossScale = lossScale ?? self.lossScale
  }

  /// The samples of each part of a step that this rank computes.
  public func parts(ofStep step: Int) -> [Range<UInt64>] {
    let size = settings.batch / (settings.accumulation * collective.count)
    let first = UInt64(step) * UInt64(settings.batch) + UInt64(collective.rank * settings.accumulation * size)
    return (0..<settings.accumulation).map { part in
      let start = first + UInt64(part * size)
      return start..<start + UInt64(size)
    }
  }

  /// Takes a step, at a rate of its own where one is given.
  ///
  /// Throws `TrainingError.notFinite`, `.lossScaleExhausted`, `.unreached`, and what the task and the other ranks throw,
  /// before anything has changed; and what the device throws.
  @discardableResult
  public mutating func step(rate: Float? = nil) throws -> StepReport {
    let rate = rate ?? settings.rate(completedSteps)
    let parts = try stage("batch") { try self.parts(ofStep: completedSteps).map(batches) }
    let scale = lossScale
    while true {
      let pass = try backward(parts)
      guard pass.loss.isFinite else { throw notFinite(pass.loss, parts) }
      if pass.norm.isFinite {
        try stage("update") { try update(pass.gradients, norm: pass.norm, rate: rate) }
        return StepReport(step: completedSteps, loss: pass.loss, gradientNorm: pass.norm, rate: rate)
      }
      // Only float16's gradients overflow because of the scale.
      guard settings.precision == .float16 else { throw notFinite(pass.loss, parts) }
      guard lossScale > 0x1p-14 else {
        lossScale = scale
        throw TrainingError.lossScaleExhausted(step: completedSteps + 1)
      }
      lossScale /= 2
    }
  }

  // MARK: Backward

  private struct Pass {
    /// Times the loss's scale, in the order of the parameters.
    var gradients: [Tensor]
    var loss: Float
    /// Of the gradients without the scale.
    var norm: Float
  }

  /// Where a step is, for a fault's message.
  private enum Phase: String {
    case forward = "in the forward pass"
    case backward = "in the backward pass"
    case sum = "in the gradients' sum"
  }

  /// A loss and its gradients at the parameters, nil where none arrives.
  private struct Differential {
    var loss: Tensor
    var gradients: [Tensor?]

    static func + (a: Differential, b: Differential) throws -> Differential {
      let gradients = try zip(a.gradients, b.gradients).map { x, y in
        if let x, let y { try x + y } else { x ?? y }
      }
      return Differential(loss: try a.loss + b.loss, gradients: gradients)
    }

    static func * (a: Differential, factor: Float) throws -> Differential {
      Differential(
        loss: try a.loss * factor, gradients: try a.gradients.map { try $0.map { try $0 * factor } })
    }
  }

  /// The networks' weights, as variables of the tape if there is one.
  private func weights(on tape: Tape?) throws -> (weights: TrainingWeights, watched: [String: WatchedWeights])
  {
    var (roots, watched): ([String: Weights], [String: WatchedWeights]) = ([:], [:])
    for network in task.networks {
      var source = try parameters.source(of: network.name, averaged: false)
      if let tape {
        let variables = WatchedWeights(source, by: tape, where: network.isTrained)
        watched[network.name] = variables
        source = variables
      }
      var root = Weights(
        source, on: device, as: settings.precision, component: network.name, keeping: frozen[network.name])
      root.recomputes = settings.recomputes
      roots[network.name] = root
    }
    return (TrainingWeights(roots), watched)
  }

  /// What `loss` returns, and `scale` times its gradients at the parameters and at `input`, if there is one.
  private func differentiated(
    scale: Float, at input: Tensor? = nil, _ enter: (Phase) -> Void,
    _ loss: (TrainingWeights, _ input: Tensor?) throws -> Tensor
  ) throws -> (Differential, atInput: Tensor?) {
    enter(.forward)
    let tape = Tape()
    let (weights, watched) = try weights(on: tape)
    let variable = input.map(tape.watch)
    let value = try stage("forward") { try loss(weights, variable) }
    let leaves = parameters.entries.map { watched[$0.network]?.parameters[$0.name] }
    let all = leaves.compactMap { $0 } + [variable].compactMap { $0 }
    enter(.backward)
    var found = try all.isEmpty ? [] : tape.gradients(of: value, scale: scale, at: all)[...]
    let gradients = leaves.map { $0 == nil ? nil : found.removeFirst() }
    return (Differential(loss: try value.untraced.reshaped([1]), gradients: gradients), found.first ?? nil)
  }

  private func backward(_ parts: [Task.Batch], _ enter: (Phase) -> Void = { _ in }) throws -> Pass {
    let pass: Differential
    if let comparison = task.comparison, parts.count * collective.count > 1 {
      pass = try compared(comparison, parts, enter)
    } else {
      pass = try averaged(parts, enter)
    }
    let unreached = zip(parameters.entries, pass.gradients).filter { $1 == nil }.map(\.0.fullName)
    guard unreached.isEmpty else { throw TrainingError.unreached(parameters: unreached) }
    var (loss, gradients) = (pass.loss, pass.gradients.compactMap { $0 })
    if collective.count > 1 { (loss, gradients) = try summed(loss, gradients) }
    let figures = try stage("norm") {
      let squares = try gradients.map { gradient in
        try gradient.reshaped([gradient.shape.count]).map(.square).reduced(.sum, axes: [0]).reshaped([1])
      }
      let square = try Tensor.concatenated(squares, axis: 0).reduced(.sum, axes: [0]).reshaped([1])
      return try Tensor.concatenated([loss, square], axis: 0).floats()
    }
    return Pass(gradients: gradients, loss: figures[0], norm: figures[1].squareRoot() / lossScale)
  }

  /// This rank's share of the mean over the parts of all ranks.
  private func averaged(_ parts: [Task.Batch], _ enter: (Phase) -> Void) throws -> Differential {
    let share = 1 / Float(parts.count * collective.count)
    var sum: Differential?
    for part in parts {
      var next = try differentiated(scale: lossScale * share, enter) { weights, _ in
        try task.loss(part, weights)
      }.0
      enter(.sum)
      next.loss = try next.loss * share
      sum = try sum.map { try $0 + next } ?? next
    }
    guard let sum else { preconditionFailure("a step has parts") }
    return sum
  }

  /// This rank's share of a loss that compares the samples of all parts of all ranks.
  private func compared(
    _ comparison: BatchComparison<Task.Batch>, _ parts: [Task.Batch], _ enter: (Phase) -> Void
  ) throws -> Differential {
    enter(.forward)
    let constants = try weights(on: nil).weights
    let own = try stage("forward") {
      try Tensor.concatenated(parts.map { try comparison.embeddings($0, constants) }, axis: 0)
    }
    var (sum, cotangents) = try differentiated(scale: lossScale, at: gathered(own), enter) {
      weights, embeddings in
      try comparison.loss(embeddings ?? own, weights)
    }
    guard let cotangents else {
      throw TrainingError.unreached(parameters: parameters.entries.map(\.fullName))
    }
    // Each rank knows the whole loss.
    if collective.count > 1 { sum = try sum * (1 / Float(collective.count)) }
    var row = collective.rank * own.shape[0]
    for part in parts {
      let pulled = try differentiated(scale: 1, enter) { weights, _ in
        let embeddings = try comparison.embeddings(part, weights)
        defer { row += embeddings.shape[0] }
        let products = try embeddings * cotangents.rows(row..<row + embeddings.shape[0])
        return try products.reduced(.sum, axes: Array(0..<products.shape.rank)).reshaped([1])
      }.0
      enter(.sum)
      sum.gradients = try (sum + pulled).gradients
    }
    return sum
  }

  /// The rows of all ranks, in the ranks' order.
  private func gathered(_ own: Tensor) throws -> Tensor {
    guard collective.count > 1 else { return own }
    let count = own.shape.count
    var values = [Float](repeating: 0, count: count * collective.count)
    values.replaceSubrange(collective.rank * count..<(collective.rank + 1) * count, with: try own.floats())
    try collective.sum(&values)
    return try Tensor(values, own.shape.replacing(axis: 0, with: own.shape[0] * collective.count), on: device)
  }

  /// The same of all ranks together.
  private func summed(_ loss: Tensor, _ gradients: [Tensor]) throws -> (Tensor, [Tensor]) {
    let tensors = try ([loss] + gradients).map { try $0.cast(to: .float32) }
    var end = 0
    let places = tensors.map { tensor in
      defer { end += tensor.spec.byteCount }
      return end..<end + tensor.spec.byteCount
    }
    var values = [Float](repeating: 0, count: tensors.reduce(0) { $0 + $1.shape.count })
    try values.withUnsafeMutableBytes { bytes in
      for (tensor, place) in zip(tensors, places) { try tensor.copy(into: .init(rebasing: bytes[place])) }
    }
    try collective.sum(&values)
    let sums = try values.withUnsafeBytes { bytes in
      try zip(tensors, places).map { tensor, place in
        try Tensor(bytes: .init(rebasing: bytes[place]), tensor.spec, on: device)
      }
    }
    return (sums[0], Array(sums.dropFirst()))
  }

  // MARK: Update

  private mutating func update(_ gradients: [Tensor], norm: Float, rate: Float) throws {
    let clip = settings.maxGradientNorm.map { min(1, $0 / (norm + 1e-6)) } ?? 1
    let scale = try Tensor([clip / lossScale], [1], on: device)
    // The average forgets its start sooner: diffusers' EMAModel.
    let ramp = completedSteps == 0 ? 0 : Float(1 + completedSteps) / Float(10 + completedSteps)
    for (index, gradient) in gradients.enumerated() {
      let entry = parameters.entries[index]
      let operation = AdamW(
        step: completedSteps + 1, rate: rate * entry.rateScale, beta1: settings.beta1, beta2: settings.beta2,
        epsilon: settings.epsilon, decay: settings.weightDecay, averaging: min(settings.averaging, ramp))
      var state = try Tensor.apply(.adamW(operation), [entry.state, gradient.reshaped(entry.shape), scale])
      if let limit = entry.limit {
        let most = try Tensor.fill(limit, [1], on: device)
        state = try Tensor.concatenated(
          [state.rows(0..<1).minimum(most), state.rows(1..<3), state.rows(3..<4).minimum(most)], axis: 0)
      }
      parameters.entries[index].state = state
    }
    completedSteps += 1
    if settings.precision == .float16, completedSteps % Self.growthInterval == 0, lossScale < 0x1p24 {
      lossScale *= 2
    }
  }

  // MARK: Faults

  /// The step once more, with every operation's output looked at.
  private func notFinite(_ loss: Float, _ parts: [Task.Batch]) -> any Error {
    let layer = Mutex("")
    let phase = Mutex(Phase.forward)
    device.observe { event in layer.withLock { $0 = event.path } }
    device.audit = true
    defer {
      device.audit = false
      device.observe(nil)
    }
    var cause = "every operation was finite when the step was repeated"
    do {
      _ = try backward(parts) { entered in phase.withLock { $0 = entered } }
    } catch let error as TensorError {
      guard case .nonFinite = error else { return error }
      let (layer, phase) = (layer.withLock { $0 }, phase.withLock { $0 })
      cause = "first \(phase.rawValue), \(layer.isEmpty ? "outside of layers" : "at " + layer): \(error)"
    } catch { return error }
    return TrainingError.notFinite(step: completedSteps + 1, loss: loss, cause: cause)
  }
}
