import Foundation
import LangevinTensor
import LangevinTraining
import Synchronization

/// What a run will need, found before it begins: a step of it runs on a device that computes nothing.
public struct TrainingPlan: Sendable {
  /// Numbers that are learnt.
  public let parameters: Int
  /// The most bytes that tensors hold at once in a step. What a backend keeps beside them is not in it.
  public let peak: Int
  /// What the device offers, in bytes; 0 where it does not say.
  public let limit: Int
  /// Of a step, forward and back.
  public let work: Work
  /// What runs, each shape once: by it kernels can be compiled before they are needed.
  public let calls: Set<OperationCall>

  /// Plans a task for a device. `make` builds it on a device of its own. Throws what the task throws.
  public init<Task: TrainingTask>(
    _ settings: TrainerSettings, on device: Device, _ make: (Device) throws -> Task
  ) throws {
    let backend = PlanningBackend(like: device.backend)
    let planning = Device(backend)
    var trainer = try Trainer(make(planning), settings, on: planning)
    // What the first step alone needs is not what every step needs.
    try trainer.step()
    _ = backend.takePeak()
    let work = Mutex(Work())
    planning.observe { event in
      work.withLock { $0 += event.operation.definition.work(of: event.inputs, output: event.output) }
    }
    try trainer.step()
    parameters = trainer.parameters.count
    peak = backend.takePeak()
    limit = device.backend.memory.limit
    self.work = work.withLock { $0 }
    calls = backend.calls
  }

  /// The shortest time of a step on a device that reaches these ceilings, in seconds.
  public func secondsAtLeast(_ rates: PeakRates) -> Double {
    max(work.flops / rates.flops, work.bytes / rates.bandwidth)
  }
}
