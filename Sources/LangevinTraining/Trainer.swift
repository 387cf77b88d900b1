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
    guard task.isMeanOfSamples || parts == 1 else { throw TrainingError.indivisibleLoss }
    (self.task, self.settings, self.device, self.collective) = (task, settings, device, collective)
    batches = { try task.batch($0) }
    parameters = try TrainedParameters(task.networks, on: device)
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
    let parts = try parts(ofStep: completedSteps).map(batches)
    let scale = lossScale
    while true {
      let pass = try backward(parts)
      guard pass.loss.isFinite else { throw notFinite(pass.loss, parts) }
      if pass.norm.isFinite {
        try update(pass.gradients, norm: pass.norm, rate: rate)
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

  /// The loss of a batch's part and its gradient at each parameter, both times `share`.
  private func backward(_ batch: Task.Batch, share: Float, _ enter: (Phase) -> Void) throws
    -> (loss: Tensor, gradients: [Tensor])
  {
    enter(.forward)
    let tape = Tape()
    var (roots, watched): ([String: Weights], [String: WatchedWeights]) = ([:], [:])
    for network in task.networks {
      let source = WatchedWeights(
        try parameters.source(of: network.name, averaged: false), by: tape, where: network.isTrained)
      watched[network.name] = source
      roots[network.name] = Weights(
        source, on: device, as: settings.precision, component: network.name)
    }
    let loss = try task.loss(batch, TrainingWeights(roots))
    var unread: [String] = []
    let leaves = parameters.entries.compactMap { entry in
      let leaf = watched[entry.network]?.parameters[entry.name]
      if leaf == nil { unread.append(entry.fullName) }
      return leaf
    }
    guard unread.isEmpty else { throw TrainingError.unreached(parameters: unread) }
    enter(.backward)
    let gradients = try tape.gradients(of: loss, scale: lossScale * share, at: leaves)
    let unreached = zip(parameters.entries, gradients).filter { $1 == nil }.map(\.0.fullName)
    guard unreached.isEmpty else { throw TrainingError.unreached(parameters: unreached) }
    return (try loss.untraced.reshaped([1]) * share, gradients.compactMap { $0 })
  }

  private func backward(_ parts: [Task.Batch], _ enter: (Phase) -> Void = { _ in }) throws -> Pass {
    let share = 1 / Float(settings.accumulation * collective.count)
    var sum: (loss: Tensor, gradients: [Tensor])?
    for part in parts {
      let next = try backward(part, share: share, enter)
      enter(.sum)
      guard let known = sum else {
        sum = next
        continue
      }
      sum = (try known.loss + next.loss, try zip(known.gradients, next.gradients).map { try $0 + $1 })
    }
    guard var (loss, gradients) = sum else { preconditionFailure("a step has parts") }
    if collective.count > 1 { (loss, gradients) = try summed(loss, gradients) }
    let squares = try gradients.map { gradient in
      try gradient.reshaped([gradient.shape.count]).map(.square).reduced(.sum, axes: [0]).reshaped([1])
    }
    let square = try Tensor.concatenated(squares, axis: 0).reduced(.sum, axes: [0]).reshaped([1])
    let figures = try Tensor.concatenated([loss, square], axis: 0).floats()
    return Pass(gradients: gradients, loss: figures[0], norm: figures[1].squareRoot() / lossScale)
  }

  /// The same of all ranks together.
  private func summed(_ loss: Tensor, _ gradients: [Tensor]) throws -> (Tensor, [Tensor]) {
    var values = try loss.floats()
    for gradient in gradients { values += try gradient.floats() }
    try collective.sum(&values)
    let all = try Tensor(values, [values.count], on: device)
    var first = 1
    let parts = try gradients.map { gradient in
      defer { first += gradient.shape.count }
      return try all.rows(first..<first + gradient.shape.count).reshaped(gradient.shape)
    }
    return (try all.rows(0..<1), parts)
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
      parameters.entries[index].state = try Tensor.apply(
        .adamW(operation), [entry.state, gradient.reshaped(entry.shape), scale])
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
