import Foundation
import LangevinTensor

/// What searches found on devices of several families, as it ships: `shipped.json` beside this file, which
/// `langevin tune --export` writes. A family's other drivers and models of a card may gain less by it, and what is found
/// on the device itself comes first.
struct ShippedTuning: Codable, Sendable, Equatable {
  /// Parameters for a key.
  struct Row: Codable, Sendable, Equatable {
    var operation: TunedOperation
    var kernels: String
    var dtype: DType
    var sizes: [Int]
    var kernel: String
    var parameters: [String: Int]
    /// How many times faster than what the package takes without the row, where it was found.
    var gain: Double

    init(_ entry: TuningEntry) {
      (operation, kernels, dtype) = (entry.key.operation, entry.key.family.rawValue, entry.key.dtype)
      (sizes, kernel) = (entry.key.lowerSizes, entry.parameters.kernel)
      parameters = Dictionary(uniqueKeysWithValues: entry.parameters.values.map { ($0.name, $0.value) })
      gain = (100 * entry.shippedSeconds / entry.tunedSeconds).rounded() / 100
    }

    /// Nil for kernels or parameters that are no more.
    var choice: (key: TuningKey, parameters: TuningParameters)? {
      guard let family = KernelFamily(rawValue: kernels),
        let key = TuningKey(operation, family, dtype, lowerSizes: sizes),
        let parameters = TuningParameters(kernel: kernel, values: parameters)
      else { return nil }
      return (key, parameters)
    }
  }

  /// Devices that are alike.
  struct Family: Codable, Sendable, Equatable {
    var name: String
    /// Devices and drivers on which it was found.
    var tunedOn: [String]
    var rows: [Row]
  }

  var families: [Family] = []

  /// Of this package. A test reads it.
  static let packaged =
    (try? JSONDecoder().decode(ShippedTuning.self, from: Data(PackageResources.shipped_json)))
    ?? ShippedTuning()

  private static let table: [String: [TuningKey: TuningParameters]] = Dictionary(
    packaged.families.map { family in
      let choices = family.rows.compactMap(\.choice).map { ($0.key, $0.parameters) }
      return (family.name, Dictionary(choices) { $1 })
    }
  ) { $1 }

  /// What was found for a key on devices of this one's family; nil where nothing was.
  static func parameters(_ key: TuningKey, on device: DeviceDescription) -> TuningParameters? {
    table[device.tuningFamily]?[key]
  }

  /// Takes up what was found on a device. A row for the same key is replaced.
  mutating func put(_ entries: [TuningEntry], of device: DeviceDescription) {
    let place = families.firstIndex { $0.name == device.tuningFamily }
    var family =
      place.map { families[$0] } ?? Family(name: device.tuningFamily, tunedOn: [], rows: [])
    let origin = "\(device.name), driver \(device.driver)"
    if !family.tunedOn.contains(origin) { family.tunedOn = (family.tunedOn + [origin]).sorted() }
    var rows = Dictionary(family.rows.map { ($0.choice?.key, $0) }) { $1 }
    for entry in entries { rows[entry.key] = Row(entry) }
    family.rows = rows.compactMap { key, row in key.map { ("\($0)", row) } }.sorted { $0.0 < $1.0 }.map(\.1)
    if let place { families[place] = family } else { families.append(family) }
    families.sort { $0.name < $1.name }
  }
}

extension DeviceDescription {
  /// Devices for which the same parameters are fast: processors by driver and width of vectors, others by driver and name.
  var tuningFamily: String {
    isCPU ? "\(platform), vectors of \(vectorWidth.map(String.init) ?? "?")" : "\(platform), \(name)"
  }
}

extension OpenCLBackend {
  /// `ShippedTuning` as JSON, with what searches found on this device that is faster than what ships. Throws
  /// `OpenCLError.cache` where `table` is none.
  public func exportedTuning(into table: Data?) throws -> Data {
    var shipped = ShippedTuning()
    if let table {
      do { shipped = try JSONDecoder().decode(ShippedTuning.self, from: table) } catch {
        throw OpenCLError.cache(path: "the table", reason: "it is no table of kernel parameters")
      }
    }
    let better = tunedEntries.values.filter { entry in
      entry.parameters != shippedParameters(entry.key) && entry.tunedSeconds > 0
        && entry.shippedSeconds > 1.03 * entry.tunedSeconds
    }
    if !better.isEmpty { shipped.put(Array(better), of: description) }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(shipped) + Data("\n".utf8)
  }
}
