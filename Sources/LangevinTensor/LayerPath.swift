/// Which layer of a network computes: the path of its parameters in the checkpoint, after the component's name
/// where the pipeline gave one, as in `unet.down_blocks.1.attentions.0.proj_in`.
public enum LayerPath {
  /// The path of the layer that is computing; empty outside of layers.
  @TaskLocal public static var current = ""
}

/// Runs a layer's body under its path: operations, records and spans within carry it.
///
/// The path is absolute and replaces an enclosing layer's, so an operation carries the innermost one.
public func layer<R>(_ path: String, _ body: () throws -> R) rethrows -> R {
  try LayerPath.$current.withValue(path) {
    guard let log = SpanLog.current else { return try body() }
    return try log.span(.layer, path, body)
  }
}

/// Runs a part of a generation under its name, which a profile shows: `text encoder`, `step 3`.
public func stage<R>(_ name: @autoclosure () -> String, _ body: () throws -> R) rethrows -> R {
  guard let log = SpanLog.current else { return try body() }
  return try log.span(.stage, name(), body)
}
