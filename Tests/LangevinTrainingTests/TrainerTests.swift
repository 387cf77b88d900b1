import LangevinNN
import LangevinTensor
import LangevinTraining
import Synchronization
import Testing

/// A loss of some named weights, all of which begin alike.
private struct SmallTask: TrainingTask {
  typealias Loss = @Sendable (_ weights: Weights, _ samples: Range<UInt64>) throws -> Tensor
  let networks: [TrainedNetwork]
  var isMeanOfSamples = true
  private let body: Loss

  init(_ names: [String] = ["x"], start: Float, size: Int = 1, loss: @escaping Loss) {
    let weights = InitialWeights(seed: 1) { _, _, _ in .constant(start) }
    networks = [
      TrainedNetwork("net", start: weights) { root in
        for name in names { _ = try root.tensor(name, [size]) }
      }
    ]
    body = loss
  }

  func batch(_ samples: Range<UInt64>) -> Range<UInt64> { samples }
  func loss(_ batch: Range<UInt64>, _ weights: TrainingWeights) throws -> Tensor {
    try body(weights["net"], batch)
  }
}

private func settings(_ precision: DType = .float32, batch: Int = 1) -> TrainerSettings {
  var result = TrainerSettings(batch: batch, rate: LearningRate(base: 0.01, total: 100))
  result.precision = precision
  return result
}

/// Faults of a step, and what float16 does about its own.
@Suite struct TrainerTests {
  // MARK: The scale of the loss

  /// The gradient is 16 times the scale, and float16 ends at 65504: with 2^15 it is infinite, with 2^11 it is not.
  private static func steep() -> SmallTask {
    SmallTask(start: 0.5) { weights, _ in
      try (weights.tensor("x", [1]) * 16).cast(to: .float32).map(.square)
    }
  }

  @Test(arguments: devices) func theScaleOfTheLossIsHalvedUntilGradientsAreFinite(device: Device) throws {
    let task = SmallTask(start: 0.5) { weights, _ in
      try (weights.tensor("x", [1]) * 16).cast(to: .float32).reshaped([1])
    }
    var trainer = try Trainer(task, settings(.float16), on: device)
    #expect(trainer.lossScale == 0x1p15)
    let report = try trainer.step()
    #expect(trainer.lossScale == 0x1p11)
    #expect(report.step == 1 && report.loss == 8 && report.gradientNorm == 16)
    // The step was taken once: AdamW's first is as long as the rate.
    let value = try trainer.parameters.entries[0].value.floats()[0]
    #expect(abs(value - (0.5 - 0.01 - 0.01 * 0.01 * 0.5)) < 1e-6)
    #expect(try trainer.step().step == 2 && trainer.lossScale == 0x1p11)
  }

  @Test(arguments: [DType.float32, .bfloat16]) func onlyFloat16HasAScale(precision: DType) throws {
    var trainer = try Trainer(Self.steep(), settings(precision), on: devices[0])
    #expect(trainer.lossScale == 1)
    #expect(try trainer.step().gradientNorm == 256 && trainer.lossScale == 1)
  }

  @Test func aRestoredRunHasTheScaleThatItHad() throws {
    var whole = try Trainer(Self.steep(), settings(.float16), on: devices[0])
    for _ in 0..<3 { try whole.step() }
    let states = Dictionary(uniqueKeysWithValues: whole.parameters.entries.map { ($0.fullName, $0.state) })
    var second = try Trainer(Self.steep(), settings(.float16), on: devices[0])
    try second.restore(states, completedSteps: 3, lossScale: whole.lossScale)
    for _ in 0..<3 { #expect(try second.step() == whole.step()) }
    #expect(second.lossScale == whole.lossScale && second.lossScale < 0x1p15)
    #expect(try state(second) == state(whole))
  }

  @Test func aScaleThatHelpsNothingIsToldAndChangesNothing() throws {
    // The root's slope at zero is infinite whatever the scale.
    let task = SmallTask(start: 0) { weights, _ in
      try weights.tensor("x", [1]).map(.sqrt).cast(to: .float32)
    }
    var trainer = try Trainer(task, settings(.float16), on: devices[0])
    let before = try state(trainer)
    #expect(throws: TrainingError.lossScaleExhausted(step: 1)) { try trainer.step() }
    #expect(try state(trainer) == before && trainer.completedSteps == 0 && trainer.lossScale == 0x1p15)
  }

  // MARK: What is not finite

  private func fault(_ task: SmallTask, on device: Device, _ precision: DType = .float32) throws -> String {
    // Its observer and audit are no other test's.
    let device = Device(device.backend)
    var trainer = try Trainer(task, settings(precision), on: device)
    let before = try state(trainer)
    let error = #expect(throws: TrainingError.self) { try trainer.step() }
    // Nothing has changed, and the device is as it was.
    #expect(try state(trainer) == before && trainer.completedSteps == 0 && !device.audit)
    return try #require(error).description
  }

  @Test(arguments: devices) func aFaultOfTheForwardPassIsNamedWithItsLayer(device: Device) throws {
    let task = SmallTask(start: -1) { weights, _ in
      let inner = try layer("net.block") { try weights.tensor("x", [1]).map(.log) }
      return try layer("net.head") { try inner * 2 }
    }
    let text = try fault(task, on: device)
    #expect(text.hasPrefix("step 1: the loss is NaN; first in the forward pass, at net.block: "), "\(text)")
    #expect(text.contains("log") && !text.contains("\n"), "\(text)")
  }

  @Test(arguments: devices) func aFaultOfTheBackwardPassIsNamedWithItsLayer(device: Device) throws {
    let task = SmallTask(start: 0) { weights, _ in
      let inner = try layer("net.block") { try weights.tensor("x", [1]).map(.sqrt) }
      return try layer("net.head") { try inner * 2 }
    }
    let text = try fault(task, on: device)
    #expect(
      text.hasPrefix("step 1: the gradient is not finite; first in the backward pass, at net.block: "),
      "\(text)")
  }

  @Test(arguments: devices) func gradientsWhoseSquaresOverflowAreSaidToBeTheSum(device: Device) throws {
    let task = SmallTask(start: 1) { weights, _ in try weights.tensor("x", [1]) * 1e30 }
    let text = try fault(task, on: device)
    #expect(text.hasPrefix("step 1: the gradient is not finite; first in the gradients' sum, "), "\(text)")
  }

  @Test(arguments: devices) func aFaultThatDoesNotComeBackIsToldAsOne(device: Device) throws {
    let calls = Counter()
    let task = SmallTask(start: 1) { weights, _ in
      try weights.tensor("x", [1]) * (calls.next() == 1 ? .infinity : 1)
    }
    let text = try fault(task, on: device)
    #expect(text.contains("every operation was finite when the step was repeated"), "\(text)")
  }

  @Test func anotherErrorOfTheRepeatedStepIsItself() throws {
    let calls = Counter()
    let full = TensorError.outOfMemory(device: "here", requested: 2, inUse: 1, limit: 2)
    let task = SmallTask(start: 1) { weights, _ in
      if calls.next() > 1 { throw full }
      return try weights.tensor("x", [1]) * .infinity
    }
    let device = Device(devices[0].backend)
    var trainer = try Trainer(task, settings(), on: device)
    #expect(throws: full) { try trainer.step() }
    #expect(!device.audit)
  }

  // MARK: What is not reached

  @Test func aParameterThatNoGradientReachesIsNamed() throws {
    let names = ["a", "b", "c", "d", "e"]
    let unread = SmallTask(names, start: 1) { weights, _ in try weights.tensor("b", [1]) * 2 }
    var trainer = try Trainer(unread, settings(), on: devices[0])
    let error = #expect(throws: TrainingError.self) { try trainer.step() }
    #expect(error == .unreached(parameters: ["net/a", "net/c", "net/d", "net/e"]))
    let text = try #require(error).description
    #expect(text.contains("net/a, net/c, net/d and 1 more") && !text.contains("net/b"))

    let cutOff = SmallTask(["a", "b"], start: 1) { weights, _ in
      try weights.tensor("a", [1]) + weights.tensor("b", [1]).untraced
    }
    trainer = try Trainer(cutOff, settings(), on: devices[0])
    #expect(throws: TrainingError.unreached(parameters: ["net/b"])) { try trainer.step() }
    #expect(trainer.completedSteps == 0)
  }

  @Test func aGradientThatIsZeroDoesArrive() throws {
    let task = SmallTask(["a", "b"], start: 1) { weights, _ in
      try weights.tensor("a", [1]) + weights.tensor("b", [1]) * 0
    }
    var trainer = try Trainer(task, settings(), on: devices[0])
    #expect(try trainer.step().gradientNorm == 1)
  }

  @Test func nothingToTrainIsAnError() throws {
    let task = SmallTask(start: 1) { weights, _ in try weights.tensor("x", [1]) }
    var network = task.networks[0]
    network.isTrained = { _ in false }
    #expect(throws: TrainingError.nothingToTrain(network: "net")) {
      try TrainedParameters([network], on: devices[0])
    }
  }

  // MARK: Batches

  @Test func aBatchThatDoesNotComeOutEvenIsRefused() throws {
    var task = SmallTask(start: 1) { weights, _ in try weights.tensor("x", [1]) }
    for (batch, accumulation) in [(10, 3), (4, 8), (0, 1), (4, 0)] {
      var settings = settings(batch: batch)
      settings.accumulation = accumulation
      #expect(throws: TrainingError.batch(size: batch, accumulation: accumulation, ranks: 1)) {
        try Trainer(task, settings, on: devices[0])
      }
    }
    task.isMeanOfSamples = false
    var settings = settings(batch: 4)
    settings.accumulation = 2
    #expect(throws: TrainingError.indivisibleLoss) { try Trainer(task, settings, on: devices[0]) }
    settings.accumulation = 1
    #expect(throws: Never.self) { try Trainer(task, settings, on: devices[0]) }
  }

  @Test func everySampleIsInOnePartOfOneStep() throws {
    let task = SmallTask(start: 1) { weights, _ in try weights.tensor("x", [1]) }
    var settings = settings(batch: 12)
    settings.accumulation = 4
    let trainer = try Trainer(task, settings, on: devices[0])
    let parts = (0..<3).flatMap(trainer.parts(ofStep:))
    #expect(parts.flatMap { $0 } == Array(0..<36) && parts.allSatisfy { $0.count == 3 })
  }

  // MARK: States

  @Test func aStateOfOtherNetworksIsRefusedByName() throws {
    let task = SmallTask(["a", "b"], start: 1) { weights, _ in
      try weights.tensor("a", [1]) + weights.tensor("b", [1])
    }
    var trainer = try Trainer(task, settings(), on: devices[0])
    let good = Dictionary(uniqueKeysWithValues: trainer.parameters.entries.map { ($0.fullName, $0.state) })
    let known = try #require(good["net/a"])
    let faults: [(String, [String: Tensor])] = [
      ("net/c", good.merging(["net/c": known]) { $1 }),
      ("net/b", good.filter { $0.key != "net/b" }),
      ("net/b", good.merging(["net/b": try .fill(0, [4, 2], on: devices[0])]) { $1 }),
    ]
    for (name, states) in faults {
      let error = #expect(throws: TrainingError.self) { try trainer.restore(states, completedSteps: 5) }
      guard case .stateMismatch(name, _) = error else {
        Issue.record("\(name): \(String(describing: error))")
        continue
      }
    }
    try trainer.restore(good, completedSteps: 5)
    #expect(trainer.completedSteps == 5)
  }

  private func state(_ trainer: Trainer<SmallTask>) throws -> [[Float]] {
    try trainer.parameters.entries.map { try $0.state.floats() }
  }
}

/// Counts from 1.
private final class Counter: Sendable {
  private let value = Mutex(0)
  func next() -> Int {
    value.withLock {
      $0 += 1
      return $0
    }
  }
}
