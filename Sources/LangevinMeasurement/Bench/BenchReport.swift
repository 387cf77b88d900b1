import Foundation
import Langevin
import LangevinTensor

/// What a bench measured: the JSON of `langevin bench --json`.
public struct BenchReport: Sendable, Codable {
  /// Changes when a field changes its meaning.
  public static let currentFormat = 1

  /// `currentFormat` of the writer.
  public var format = BenchReport.currentFormat
  /// The version of the tool that measured.
  public var version: String
  /// When it began, ISO 8601.
  public var date: String
  /// The suite that was measured.
  public var suite: BenchSuite
  /// Whose component; nil for operations.
  public var model: String?
  /// Warm runs of each row on each device, taken in turns.
  public var rounds: Int
  /// It was stopped, or a device failed, before all was measured.
  public var isPartial = false
  /// In the order in which they were named.
  public var devices: [Device] = []
  /// Row by row, each on all devices.
  public var rows: [Row] = []

  /// A device that was measured.
  public struct Device: Sendable, Codable {
    /// The device's name: `cpu`, `opencl:0`.
    public var name: String
    /// What it is, with driver and version.
    public var description: String
    /// From the probe of this run; nil where it failed.
    public var ceilings: Ceilings?
    /// Why it could not be used any more.
    public var failure: String?

    /// A device about to be measured.
    public init(name: String, description: String, ceilings: Ceilings? = nil, failure: String? = nil) {
      (self.name, self.description, self.ceilings, self.failure) = (name, description, ceilings, failure)
    }
  }

  /// Whether a device's result was found to be right.
  public struct Verdict: Sendable, Codable, Hashable {
    /// Only then is the row ranked.
    public var isValidated: Bool
    /// How, or why not.
    public var note: String

    /// A verdict and its reason.
    public init(isValidated: Bool, note: String) {
      (self.isValidated, self.note) = (isValidated, note)
    }
  }

  /// One workload on one device. Times are in seconds.
  public struct Row: Sendable, Codable {
    /// The workload's name.
    public var name: String
    /// The device's name.
    public var device: String
    /// What is computed with.
    public var dtype: DType
    /// Loading weights and inputs.
    public var load: Double?
    /// The first run, which builds kernels.
    public var cold: Double?
    /// A warm run, from the call until the device is idle; of short ones, a share of several in a row.
    public var wall: Sample?
    /// The sum over a run's kernels, by the device's clock.
    public var kernels: Sample?
    /// How many kernels a run launches.
    public var launches: Int?
    /// Operations and bytes of one run; nil where they are not known.
    public var work: Work?
    /// What a run would take if each of its operations reached the device's ceiling.
    public var floor: Double?
    /// Operations that had no kernel and ran on the CPU backend, in a run.
    public var fallbacks = 0
    /// Operations that had no kernel of their own and ran as simpler ones, in a run; nil in old reports.
    public var decompositions: Int?
    /// The most bytes that the process had resident in the warm runs, above what it had before the first use of the
    /// device; nil where several devices take turns.
    public var residentPeak: Int?
    /// The most bytes of the device's memory that tensors and scratch ever held.
    public var devicePeak: Int?
    /// Whether the result is right.
    public var verdict: Verdict
    /// Why there are no times.
    public var failure: String?
    /// 1 for the device with the shortest median wall time among the validated ones.
    public var rank: Int?

    /// A row without measurements.
    public init(name: String, device: String, dtype: DType, verdict: Verdict) {
      (self.name, self.device, self.dtype, self.verdict) = (name, device, dtype, verdict)
    }

    /// The kernels' median where it was measured, else the wall's.
    public var seconds: Double? { (kernels ?? wall)?.median }
    /// FLOP/s over the wall time.
    public var flopsPerSecond: Double? { rate { $0.flops } }
    /// By `seconds`: each operand once, in both directions.
    public var bytesPerSecond: Double? { rate { $0.bytes } }
    /// `floor / seconds`. Above 1 where data stayed in caches.
    public var fraction: Double? {
      guard let floor, let seconds, seconds > 0 else { return nil }
      return floor / seconds
    }

    private func rate(_ amount: (Work) -> Double) -> Double? {
      guard let work, let seconds, seconds > 0 else { return nil }
      return amount(work) / seconds
    }
  }

  /// A report without devices and rows.
  public init(version: String, suite: BenchSuite, model: String?, rounds: Int, date: Date = Date()) {
    self.version = version
    self.suite = suite
    self.model = model
    self.rounds = rounds
    self.date = ISO8601DateFormatter().string(from: date)
  }

  /// Numbers the devices of each row by median wall time; what was not validated or not measured has no rank.
  public mutating func rank() {
    for index in rows.indices { rows[index].rank = nil }
    for name in Set(rows.map(\.name)) {
      let ranked = rows.indices.filter {
        rows[$0].name == name && rows[$0].verdict.isValidated && rows[$0].wall != nil
      }.sorted { (rows[$0].wall?.median ?? 0) < (rows[$1].wall?.median ?? 0) }
      for (position, index) in ranked.enumerated() { rows[index].rank = position + 1 }
    }
  }

  /// Reads what `--json` wrote. Throws `MeasurementError.unreadable`.
  public static func read(_ url: URL) throws -> BenchReport {
    try MeasurementFile.read(url, BenchReport.self, format: currentFormat)
  }
}

/// JSON files of measurements.
public enum MeasurementFile {
  private struct Format: Decodable { let format: Int }

  /// Throws `MeasurementError.unreadable` where it is not of this kind and format.
  static func read<Contents: Decodable>(
    _ url: URL, _ type: Contents.Type, format: Int
  ) throws -> Contents {
    func unreadable(_ reason: String) -> MeasurementError { .unreadable(path: url.path, reason: reason) }
    guard let data = try? Data(contentsOf: url) else { throw unreadable("it cannot be opened") }
    let decoder = JSONDecoder()
    if let other = try? decoder.decode(Format.self, from: data), other.format != format {
      throw unreadable("it has format \(other.format), this version reads \(format)")
    }
    do {
      return try decoder.decode(type, from: data)
    } catch {
      throw unreadable("it is no such JSON file")
    }
  }

  /// Pretty-printed with sorted keys, and whole or not at all. Throws `ImageError.unwritable`.
  public static func write(_ value: some Encodable, to url: URL) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try write(String(decoding: try encoder.encode(value), as: UTF8.self) + "\n", to: url)
  }

  /// Throws `ImageError.unwritable`.
  public static func write(_ text: String, to url: URL) throws {
    try Data(text.utf8).withUnsafeBytes { try OutputFile.write($0, to: url) }
  }
}
