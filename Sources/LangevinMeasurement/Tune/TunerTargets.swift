import Langevin
import LangevinTensor
import LangevinValidation
import Synchronization

import enum LangevinTensor.Operation

/// A key of the tuning table, and what a model computes under it.
public struct TuningTarget<Key: TunableKey>: Sendable {
  /// What parameters are stored by.
  public let key: Key
  /// The shape that is timed: the one of most work.
  public let test: OperationCase
  /// Storage of its operands.
  public let dtype: DType
  /// Of all shapes under the key in one picture.
  public internal(set) var flops: Double
  /// Launches of any shape under the key in one picture.
  public internal(set) var launches: Double

  /// Of one launch of `test`.
  let work: Work
}

/// What a model launches, counted.
public struct OperationCounts: Sendable {
  private struct Row: Hashable {
    let operation: Operation
    let inputs: [TensorSpec]
    let output: TensorSpec
  }

  private var counts: [Row: Double] = [:]

  /// Nothing counted yet.
  public init() {}

  /// Counts an operation `times` more.
  public mutating func add(
    _ operation: Operation, inputs: [TensorSpec], output: TensorSpec, times: Double = 1
  ) {
    counts[Row(operation: operation, inputs: inputs, output: output), default: 0] += times
  }

  /// Runs a pipeline for one step, for its shapes alone, and counts what it launches for a picture of `steps`
  /// steps. Nothing is computed and no weight is read.
  ///
  /// Throws what the pipeline and `check` throw; `check` is called between its stages.
  public static func observing(
    _ checkpoint: Checkpoint, precision: DType, steps: Int, check: () throws -> Void = {}
  ) throws -> OperationCounts {
    let pipeline = try Pipelines.open(checkpoint, on: Device(ShapeBackend()), precision: precision)
    let state = Mutex((counts: OperationCounts(), times: 1.0))
    pipeline.device.observe { event in
      state.withLock {
        $0.counts.add(event.operation, inputs: event.inputs, output: event.output, times: $0.times)
      }
    }
    defer { pipeline.device.observe(nil) }
    let prompts = type(of: pipeline).options.contains(.prompt) ? ["a photograph"] : []
    var request = try pipeline.resolved(GenerationRequest(prompts: prompts)).request
    request.steps = 1
    _ = try pipeline.generate(request) { event in
      try check()
      switch event {
      case .sampling: state.withLock { $0.times = Double(steps) }
      case .loading, .sampled, .decoding: state.withLock { $0.times = 1 }
      default: break
      }
    }
    return state.withLock { $0.counts }
  }

  /// What has parameters on a backend, most work first; shapes of one key are one target.
  public func targets<Backend: TunableBackend>(on backend: Backend) -> [TuningTarget<Backend.Key>] {
    var targets: [Backend.Key: TuningTarget<Backend.Key>] = [:]
    for (row, count) in counts {
      guard let key = backend.tuningKey(row.operation, inputs: row.inputs, output: row.output) else {
        continue
      }
      let work = row.operation.work(inputs: row.inputs, output: row.output)
      let (flops, launches) = (work.flops * count, count)
      let known = targets[key]
      // Counting walks over a dictionary: ties must not depend on its order.
      let name = row.inputs.map(\.shape.description).joined(separator: " ")
      let isHeavier = known.map { (work.flops, name) > ($0.work.flops, $0.test.name) } ?? true
      var target =
        isHeavier
        ? TuningTarget(
          key: key,
          test: OperationCase(name, row.operation, row.inputs.map(\.shape), size: .model),
          dtype: row.inputs[0].dtype, flops: 0, launches: 0, work: work)
        : known
      target?.flops = (known?.flops ?? 0) + flops
      target?.launches = (known?.launches ?? 0) + launches
      targets[key] = target
    }
    return targets.values.sorted { ($0.flops, $0.test.name) > ($1.flops, $1.test.name) }
  }
}
