import Foundation
import LangevinKernels
import LangevinTensor
import Logging

/// What a search found for a key.
public typealias TuningEntry = TuningFinding<TuningKey, TuningParameters>

/// The results of searches on disk, a file a device, in JSON under the XDG cache directory. A file is believed
/// only where its version, its device and its checksum agree.
struct TuningCache: Sendable {
  /// Nil where there is none.
  let url: URL?
  private let device: Identity
  private static let version = 1

  /// The file of a device in a folder; nil for none.
  init(device: DeviceDescription, directory: URL?) {
    self.device = Identity(device)
    let words = device.name.lowercased().split { !($0.isASCII && ($0.isLetter || $0.isNumber)) }
    let name = "\(words.prefix(4).joined(separator: "-"))-\(self.device.hash).json"
    url = directory?.appendingPathComponent(name)
  }

  /// What makes measurements of one device true of another.
  private struct Identity: Codable, Equatable {
    var platform, platformVersion, name, vendor, version, driver: String
    var computeUnits: Int

    init(_ device: DeviceDescription) {
      platform = device.platform
      platformVersion = device.platformVersion
      name = device.name
      vendor = device.vendor
      version = device.version
      driver = device.driver
      computeUnits = device.computeUnits
    }

    var hash: String {
      let text = [platform, platformVersion, name, vendor, version, driver, "\(computeUnits)"]
      return FNV.name(text.joined(separator: "\n"))
    }
  }

  private struct Row: Codable {
    var operation: TunedOperation
    var kernels: String
    var dtype: DType
    var sizes: [Int]
    /// The kernel's file and the hash of its source: another source has other parameters and other times.
    var kernel: String
    var kernelHash: String
    var parameters: [String: Int]
    var runnerUp: [String: Int]?
    var shippedSeconds, tunedSeconds: Double
    var candidates: Int
  }

  private struct Body: Codable {
    var device: Identity
    var rows: [Row]
  }

  private struct File: Codable {
    var version: Int
    /// Of the body, encoded compactly with sorted keys.
    var checksum: String
    var body: Body
  }

  /// The entries whose kernels are still those that were measured. A damaged file is reported and taken away.
  func load(hash: (KernelSource) -> String, logger: Logger) -> [TuningEntry] {
    guard let url, FileManager.default.fileExists(atPath: url.path) else { return [] }
    do {
      let file = try JSONDecoder().decode(File.self, from: Data(contentsOf: url))
      guard file.version == TuningCache.version, file.body.device == device,
        file.checksum == (try TuningCache.checksum(file.body))
      else { throw CocoaError(.fileReadCorruptFile) }
      return file.body.rows.compactMap { entry($0, hash: hash) }
    } catch {
      logger.warning(
        "\(url.path) is damaged or of another version; the shipped kernel parameters are used until `langevin tune` makes it anew"
      )
      try? FileManager.default.removeItem(at: url)
      return []
    }
  }

  /// Writes the entries, beside those that another process has stored since. Appears under its name only when
  /// it is complete. Throws `OpenCLError.cache`.
  func store(_ entries: [TuningEntry], hash: (KernelSource) -> String, logger: Logger) throws {
    guard let url else {
      throw OpenCLError.cache(path: "$XDG_CACHE_HOME", reason: "neither it nor $HOME names a folder")
    }
    var all = Dictionary(load(hash: hash, logger: logger).map { ($0.key, $0) }) { $1 }
    for entry in entries { all[entry.key] = entry }
    let rows = all.values.sorted { "\($0.key)" < "\($1.key)" }.map { row($0, hash: hash) }
    let body = Body(device: device, rows: rows)
    do {
      let file = File(version: TuningCache.version, checksum: try TuningCache.checksum(body), body: body)
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try encoder.encode(file).write(to: url, options: .atomic)
    } catch {
      throw OpenCLError.cache(path: url.path, reason: error.localizedDescription)
    }
  }

  private static func checksum(_ body: Body) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(FNV.hash(try encoder.encode(body)), radix: 16)
  }

  private func row(_ entry: TuningEntry, hash: (KernelSource) -> String) -> Row {
    func named(_ parameters: TuningParameters) -> [String: Int] {
      Dictionary(uniqueKeysWithValues: parameters.values.map { ($0.name, $0.value) })
    }
    let source = entry.parameters.source
    return Row(
      operation: entry.key.operation, kernels: entry.key.family.rawValue, dtype: entry.key.dtype,
      sizes: entry.key.lowerSizes, kernel: source.rawValue, kernelHash: hash(source),
      parameters: named(entry.parameters),
      runnerUp: entry.runnerUp.flatMap { $0.source == source ? named($0) : nil },
      shippedSeconds: entry.shippedSeconds, tunedSeconds: entry.tunedSeconds, candidates: entry.candidates)
  }

  /// Nil for an entry of other kernels.
  private func entry(_ row: Row, hash: (KernelSource) -> String) -> TuningEntry? {
    guard let source = KernelSource(rawValue: row.kernel), hash(source) == row.kernelHash,
      let family = KernelFamily(rawValue: row.kernels),
      let key = TuningKey(row.operation, family, row.dtype, lowerSizes: row.sizes),
      let parameters = TuningParameters(source: source, values: row.parameters)
    else { return nil }
    return TuningEntry(
      key: key, parameters: parameters,
      runnerUp: row.runnerUp.flatMap { TuningParameters(source: source, values: $0) },
      shippedSeconds: row.shippedSeconds, tunedSeconds: row.tunedSeconds, candidates: row.candidates)
  }
}

extension KeptTuning {
  /// Of all devices and drivers that were ever tuned here, sorted by file; damaged files are left out.
  public static func all(in directory: URL? = nil) -> [KeptTuning] {
    guard let folder = directory ?? CacheFolder.url("tuning"),
      let names = try? FileManager.default.contentsOfDirectory(atPath: folder.path)
    else { return [] }
    return names.sorted().compactMap { TuningCache.kept(folder.appendingPathComponent($0)) }
  }

  /// Of a device with its driver; nil where nothing is kept.
  public static func of(_ device: DeviceDescription, in directory: URL? = nil) -> KeptTuning? {
    TuningCache(device: device, directory: directory ?? CacheFolder.url("tuning")).url.flatMap(
      TuningCache.kept)
  }
}

extension TuningCache {
  /// What a file has; nil where there is none or it is damaged.
  fileprivate static func kept(_ url: URL) -> KeptTuning? {
    guard let data = try? Data(contentsOf: url), let file = try? JSONDecoder().decode(File.self, from: data),
      file.version == version, file.checksum == (try? checksum(file.body))
    else { return nil }
    let date = (try? url.resourceValues(forKeys: [.contentModificationDateKey]))?.contentModificationDate
    let rows = file.body.rows.map { row in
      let source = KernelSource(rawValue: row.kernel)
      let hash = source.map { FNV.name($0.text) }
      let sizes = zip(row.operation.sizeNames, row.sizes).map { "\($1) \($0)" }.joined(separator: ", ")
      return KeptTuning.Row(
        key: "\(row.operation.rawValue) \(row.dtype.kernelName), \(sizes)",
        parameters: source.flatMap { TuningParameters(source: $0, values: row.parameters) }.map { "\($0)" }
          ?? row.parameters.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "),
        gain: row.tunedSeconds > 0 ? row.shippedSeconds / row.tunedSeconds : 1,
        isOfTheseKernels: hash == row.kernelHash)
    }
    let device = file.body.device
    return KeptTuning(
      device: device.name, platform: device.platform, driver: device.driver, rows: rows,
      date: date ?? .distantPast, file: url
    ) {
      do {
        try FileManager.default.removeItem(at: url)
      } catch {
        throw OpenCLError.cache(path: url.path, reason: error.localizedDescription)
      }
    }
  }
}
