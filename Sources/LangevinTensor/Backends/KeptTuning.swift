import Foundation

/// What searches for kernel parameters have kept on disk for one device and driver.
public struct KeptTuning: Sendable {
  /// One kind of operation, storage and size.
  public struct Row: Sendable {
    public var key: String
    public var parameters: String
    /// How many times faster than the shipped parameters, at the time of the search.
    public var gain: Double
    /// Whether the kernels are still those that were measured; parameters of others are not used.
    public var isOfTheseKernels: Bool

    /// See the properties.
    public init(key: String, parameters: String, gain: Double, isOfTheseKernels: Bool) {
      (self.key, self.parameters) = (key, parameters)
      (self.gain, self.isOfTheseKernels) = (gain, isOfTheseKernels)
    }
  }

  /// The device's name, platform and driver.
  public var device: String
  public var platform: String
  public var driver: String
  public var rows: [Row]
  /// When the file was written last.
  public var date: Date
  public let file: URL
  /// Takes the file away; the shipped parameters are used again. Throws where the file stays.
  public let remove: @Sendable () throws -> Void

  /// See the properties.
  public init(
    device: String, platform: String, driver: String, rows: [Row], date: Date, file: URL,
    remove: @escaping @Sendable () throws -> Void
  ) {
    (self.device, self.platform, self.driver) = (device, platform, driver)
    (self.rows, self.date, self.file, self.remove) = (rows, date, file, remove)
  }

  /// How many rows can be in use.
  public var inForce: Int { rows.count { $0.isOfTheseKernels } }

  /// `7 shapes, last tuned 2026-01-31 12:00`.
  public var summary: String {
    let format = DateFormatter()
    format.dateFormat = "yyyy-MM-dd HH:mm"
    let shapes = inForce == 1 ? "1 shape" : "\(inForce) shapes"
    let others = rows.count - inForce
    return "\(shapes), last tuned \(format.string(from: date))"
      + (others > 0 ? "; \(others) of other kernels, which are not used" : "")
  }
}
