import Foundation
import LangevinTensor
import LangevinTestSupport
import Testing

@testable import LangevinOpenCL

/// The table that ships, and how searches are added to it.
@Suite struct ShippedTuningTests {
  private static let key = TuningKey.product(.cpu, .float32, rows: 129, columns: 31, inner: 257)

  private func entry(_ tileRows: Int, gain: Double, key: TuningKey = key) -> TuningEntry {
    var parameters = PanelParameters()
    (parameters.tileRows, parameters.itemRows) = (tileRows, 48)
    return TuningEntry(
      key: key, parameters: .panels(parameters), shippedSeconds: gain, tunedSeconds: 1, candidates: 7)
  }

  private func device() throws -> DeviceDescription { try #require(OpenCLDevices.all().first { $0.isCPU }) }

  @Test func whatShipsIsReadAndFits() throws {
    let table = try JSONDecoder().decode(ShippedTuning.self, from: Data(PackageResources.shipped_json))
    #expect(table == ShippedTuning.packaged)
    #expect(Set(table.families.map(\.name)).count == table.families.count)
    for family in table.families {
      #expect(!family.tunedOn.isEmpty && !family.rows.isEmpty)
      for row in family.rows {
        let choice = try #require(row.choice, "\(family.name): \(row) is of no kernel")
        #expect(choice.parameters.source.rawValue == row.kernel && row.gain > 1)
      }
    }
    // What is there is taken on a device of the family, and on no other.
    var device = try device()
    for family in table.families where family.name.hasSuffix("vectors of 8") {
      device.platform = String(family.name.prefix { $0 != "," })
      device.vectorWidth = 8
      for (key, parameters) in family.rows.compactMap(\.choice) where parameters.fits(key, device) {
        #expect(TuningTable.parameters(key, on: device) == parameters)
      }
      device.platform = "another"
      for (key, _) in family.rows.compactMap(\.choice) {
        #expect(ShippedTuning.parameters(key, on: device) == nil)
      }
    }
  }

  @Test func familiesAreByVectorsOrByName() throws {
    var device = try device()
    device.vectorWidth = 8
    #expect(device.tuningFamily == "\(device.platform), vectors of 8")
    device.name = "another processor"
    #expect(device.tuningFamily == "\(device.platform), vectors of 8")
    (device.type, device.name) = ("gpu", "a card")
    #expect(device.tuningFamily == "\(device.platform), a card")
  }

  @Test func searchesAreAddedToATable() throws {
    let device = try device()
    var other = device
    other.platform = "another"
    var table = ShippedTuning()
    table.put([entry(12, gain: 1.5)], of: device)
    table.put([entry(4, gain: 1.2)], of: other)
    let small = TuningKey.product(.cpu, .float32, rows: 16, columns: 16, inner: 16)
    table.put([entry(6, gain: 1.1, key: small), entry(2, gain: 1.3)], of: device)
    let family = try #require(table.families.first { $0.name == device.tuningFamily })
    #expect(table.families.count == 2 && family.tunedOn == ["\(device.name), driver \(device.driver)"])
    #expect(family.rows.map(\.gain) == [1.3, 1.1])
    #expect(
      family.rows.compactMap { $0.choice?.parameters }
        == [entry(2, gain: 1), entry(6, gain: 1)].map(\.parameters))
    let json = try JSONEncoder().encode(table)
    #expect(try JSONDecoder().decode(ShippedTuning.self, from: json) == table)
  }

  @Test func onlyWhatIsFasterIsExported() throws {
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(index: device().index, family: .cpu, tuningCache: folder.url)
    let empty = try backend.exportedTuning(into: nil)
    #expect(try JSONDecoder().decode(ShippedTuning.self, from: empty) == ShippedTuning())
    try backend.keep(entry(2, gain: 1.01))
    #expect(try backend.exportedTuning(into: empty) == empty)
    try backend.keep(entry(2, gain: 1.4))
    let table = try backend.exportedTuning(into: empty)
    let read = try JSONDecoder().decode(ShippedTuning.self, from: table)
    #expect(read.families.map(\.name) == [backend.description.tuningFamily])
    #expect(read.families[0].rows.map(\.gain) == [1.4])
    #expect(try backend.exportedTuning(into: table) == table)
    #expect(throws: OpenCLError.self) { try backend.exportedTuning(into: Data("{".utf8)) }
  }
}
