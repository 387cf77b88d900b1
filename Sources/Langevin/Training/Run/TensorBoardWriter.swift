import Foundation

/// Writes an event file that TensorBoard reads, while it is written or later.
public final class TensorBoardWriter: Sendable {
  private let file: AppendedFile
  private let clock: @Sendable () -> Double

  /// Begins a file that is read after all others of the folder. Where a run goes on after a step, what they hold of
  /// later steps is void; all of it where the step is nil. `clock` gives seconds since 1970.
  ///
  /// Throws `RunError.unwritable`.
  public init(
    in folder: URL, after step: Int?,
    clock: @escaping @Sendable () -> Double = { Date().timeIntervalSince1970 }
  ) throws {
    self.clock = clock
    // The name begins with the time, and readers go by the names' order.
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    let times = names.compactMap { name in
      name.firstMatch(of: /\.tfevents\.([0-9]{1,15})/).flatMap { Int($0.1) }
    }
    let time = max(Int(clock()), (times.max() ?? 0) + 1)
    let digits = String(repeating: "0", count: max(10 - "\(time)".count, 0)) + "\(time)"
    file = try AppendedFile(folder.appendingPathComponent("events.out.tfevents.\(digits).langevin"))
    try write(.fileVersion, step: 0)
    try write(.sessionStart, step: step.map { $0 + 1 } ?? 0)
  }

  /// Throws `RunError.unwritable`.
  public func write(_ scalars: [(tag: String, value: Double)], step: Int) throws {
    try write(.scalars(scalars.map { ($0.tag, Float($0.value)) }), step: step)
  }

  /// Throws `RunError.unwritable`, and `ImageError` where the picture cannot be encoded.
  public func write(_ picture: Picture, tag: String, step: Int) throws {
    let png = try picture.withPNG(for: file.url.path, texts: []) { [UInt8]($0) }
    try write(.picture(tag: tag, width: picture.width, height: picture.height, png: png), step: step)
  }

  func write(_ event: TensorBoardEvent, step: Int) throws {
    try file.append(TFRecord.framed(event.encoded(step: step, time: clock())))
  }
}
