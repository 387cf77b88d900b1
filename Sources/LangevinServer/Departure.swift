import Hummingbird
import NIOCore
import Synchronization

/// Knows when the client of a connection has gone, or has said that it sends nothing more.
///
/// Hummingbird's `consumeWithCancellationOnInboundClose` needs a body that is read to its end, and ends the process
/// where the connection is closed before that.
final class Departure: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = NIOAny

  private struct State {
    var isGone = false
    var watchers: [Int: @Sendable () -> Void] = [:]
    var next = 0
  }
  private let state = Mutex(State())

  var isGone: Bool { state.withLock { $0.isGone } }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed = event { leave() }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    leave()
    context.fireChannelInactive()
  }

  private func leave() {
    let watchers = state.withLock { state in
      state.isGone = true
      defer { state.watchers = [:] }
      return state.watchers
    }
    for watcher in watchers.values { watcher() }
  }

  /// Calls `left` if the client goes while `body` runs, or has gone.
  func watching<Result>(
    _ body: () async throws -> Result, left: @escaping @Sendable () -> Void
  ) async rethrows -> Result {
    let number: Int? = state.withLock { state in
      guard !state.isGone else { return nil }
      defer { state.next += 1 }
      state.watchers[state.next] = left
      return state.next
    }
    guard let number else {
      left()
      return try await body()
    }
    defer { state.withLock { _ = $0.watchers.removeValue(forKey: number) } }
    return try await body()
  }
}

extension ServerContext {
  /// Of this request's connection.
  var departure: Departure {
    get async throws { try await channel.pipeline.handler(type: Departure.self).get() }
  }
}
