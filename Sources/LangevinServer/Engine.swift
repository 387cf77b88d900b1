import Foundation
import Langevin
import Synchronization

/// What draws, on one device.
protocol Engine: Sendable {
  /// For people: the device's name.
  var device: String { get }

  /// Draws orders that agree (`Order.shared`), or a single one; not called again before it returns. Stops after the
  /// step in progress where the task is cancelled. `report` is told the number of the order with each event.
  ///
  /// Throws `Failure`, `CancellationError`.
  func draw(_ orders: [Order], report: @escaping @Sendable (DrawingEvent, Int) -> Void) async throws

  /// Frees the device. Nothing is drawn afterwards.
  func stop() async
}

/// Draws in this process, on a thread of its own.
actor LocalEngine: Engine {
  nonisolated let device: String
  private nonisolated let executor = ThreadExecutor()
  private let studio: Studio

  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  /// Throws where the device cannot be opened.
  init(_ catalog: Catalog, on choice: DeviceChoice, version: String) throws {
    studio = Studio(catalog, on: try choice.open(), version: version)
    device = studio.device.label
  }

  func draw(_ orders: [Order], report: @escaping @Sendable (DrawingEvent, Int) -> Void) async throws {
    let isCancelled = Flag()
    try await withTaskCancellationHandler {
      try studio.draw(orders) { event, number in
        if isCancelled.isSet { throw CancellationError() }
        report(event, number)
      }
    } onCancel: {
      isCancelled.set()
    }
  }

  func stop() async {}
}

/// Something that happened.
final class Flag: Sendable {
  private let value = Atomic(false)
  var isSet: Bool { value.load(ordering: .acquiring) }
  func set() { value.store(true, ordering: .releasing) }
}

/// Runs an actor that blocks outside of the threads that all tasks share.
final class ThreadExecutor: SerialExecutor {
  private let queue = DispatchQueue(label: "langevin.engine")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }

  func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
}
