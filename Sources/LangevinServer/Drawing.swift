import Hummingbird
import Langevin

/// What all routes share.
struct Drawing: Sendable {
  let catalog: Catalog
  let queue: JobQueue
  let reader: BodyReader

  init(_ catalog: Catalog, _ queue: JobQueue) {
    (self.catalog, self.queue) = (catalog, queue)
    reader = BodyReader(limit: catalog.limits.body)
  }

  /// Checks an order and puts it into the queue. Throws `APIError`.
  func submit(_ order: Order, origin: String) async throws -> Job {
    var order = order
    order.model = try catalog.model(order.model.isEmpty ? nil : order.model).name
    let resolved = try catalog.resolve(order)
    let job = Job(order, origin: origin, warnings: resolved.warnings)
    try await queue.submit(job)
    return job
  }

  /// Draws while the client waits: one that goes away cancels its job. Throws `APIError` unless it is done or, where
  /// `partial` says so, was cancelled.
  func draw<Extra: Sendable>(
    _ request: Request, _ context: ServerContext, origin: String, partial: Bool = false,
    _ order: @Sendable ([UInt8]) throws -> (Order, Extra)
  ) async throws -> (job: Job, status: JobStatus, extra: Extra) {
    let (order, extra) = try order(try await reader.bytes(request.body, request.headers))
    let departure = try await context.departure
    let job = try await submit(order, origin: origin)
    let cancel: @Sendable () -> Void = { Task { await queue.cancel(job) } }
    let status = await departure.watching {
      // The server cancels requests when it stops.
      await withTaskCancellationHandler {
        await job.ended()
      } onCancel: {
        cancel()
      }
    } left: {
      cancel()
    }
    try Task.checkCancellation()
    if departure.isGone { throw CancellationError() }
    switch status.state {
    case .done: break
    case .cancelled where partial: break
    case .failed: throw status.error ?? APIError(.internalServerError, "the job failed")
    default: throw APIError(.conflict, "the job '\(job.id)' was cancelled")
    }
    return (job, status, extra)
  }
}
