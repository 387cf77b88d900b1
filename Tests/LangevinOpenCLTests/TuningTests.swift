import Foundation
import LangevinKernels
import LangevinTensor
import LangevinTestSupport
import LangevinValidation
import Logging
import Synchronization
import Testing

import enum LangevinTensor.Operation

@testable import LangevinOpenCL

@Suite(.serialized) struct TuningTests {
  private static func panels(_ tileRows: Int) -> TuningParameters {
    var parameters = PanelParameters()
    (parameters.tileRows, parameters.itemRows) = (tileRows, 48)
    return .panels(parameters)
  }

  private static let key = TuningKey.product(.cpu, .float32, rows: 129, columns: 31, inner: 257)
  private static let entry = TuningEntry(
    key: key, parameters: panels(12), runnerUp: panels(4), shippedSeconds: 0.1 + 0.2, tunedSeconds: 1e-9 / 3,
    candidates: 7)

  private func backend(
    _ folder: TemporaryFolder, logger: Logger? = nil,
    patch: (@Sendable (KernelSource, String) -> String)? = nil
  ) throws -> OpenCLBackend {
    let index = try #require(OpenCLDevices.all().first { $0.isCPU }).index
    return try OpenCLBackend(
      index: index, family: .cpu, tuningCache: folder.url,
      logger: logger ?? Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }, patch: patch)
  }

  // MARK: Keys and the table

  @Test func sizesFallIntoBucketsOfHalfAnOctave() {
    #expect(
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 16].map { TuningKey.bucket($0) }
        == [0, 1, 2, 3, 4, 4, 6, 6, 8, 8, 12, 12, 16])
    #expect(
      [320, 640, 768, 960, 1280, 1920, 4096].map { TuningKey.bucket($0) }
        == [256, 512, 768, 768, 1024, 1536, 4096])
    #expect(TuningKey.bucket(1 << 40) == 3 << 30)
    for size in 1..<5000 {
      let low = TuningKey.bucket(size)
      #expect(low <= size && TuningKey.bucket(Int(low)) == low)
    }
  }

  @Test func keysOfOperations() {
    func key(_ operation: Operation, _ shapes: Shape..., output: Shape) -> TuningKey? {
      TuningKey(operation, inputs: shapes.map { TensorSpec($0) }, output: TensorSpec(output), family: .cpu)
    }
    let attention = Operation.attention(Attention(heads: 8, scale: 1))
    #expect(
      key(attention, [2, 4096, 640], [2, 77, 640], [2, 77, 640], output: [2, 4096, 640])?.lowerSizes
        == [4096, 64, 80])
    // A batch has its images' parameters.
    #expect(
      key(attention, [2, 50, 64], [2, 50, 64], [2, 50, 64], output: [2, 50, 64])
        == key(attention, [1, 50, 64], [1, 50, 64], [1, 50, 64], output: [1, 50, 64]))
    let conv = Conv2D(kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))
    #expect(
      key(.conv2d(conv), [2, 8, 8, 320], [2880, 640], output: [2, 8, 8, 640])?.lowerSizes
        == [128, 512, 256, 9])
    // Tile by tile: the products of a run of tiles.
    #expect(
      key(.conv2d(conv), [2, 64, 64, 320], [2880, 640], output: [2, 64, 64, 640])
        == key(
          .matmul(MatMul()), [36, 128, 320], [36, 320, 640], output: [36, 128, 640]))
    let pointwise = Conv2D(kernel: Extent2D(height: 1, width: 1))
    #expect(
      key(.conv2d(pointwise), [1, 8, 8, 32], [32, 64], output: [1, 8, 8, 64])
        == key(.matmul(MatMul()), [64, 32], [32, 64], output: [64, 64]))
    let batched = key(.matmul(MatMul()), [5, 16, 8], [5, 8, 24], output: [5, 16, 24])
    #expect(batched?.lowerSizes == [16, 24, 8])
    #expect(key(.softmax, [4, 4], output: [4, 4]) == nil)
    #expect(key(.matmul(MatMul()), [0, 4], [4, 3], output: [0, 3]) == nil)
  }

  @Test func everyKeyHasShippedParametersThatFit() throws {
    let device = try #require(OpenCLDevices.all().first)
    for family in KernelFamily.allCases {
      for row in OperationCases.all {
        let specs = row.specs(.float32)
        guard let output = try? row.operation(.float32).output(of: specs),
          let key = TuningKey(row.operation(.float32), inputs: specs, output: output, family: family)
        else { continue }
        let shipped = TuningTable.parameters(key, on: device)
        #expect(shipped.fits(key, device), "\(row)")
        let space = TuningParameters.space(key, on: device)
        #expect(space.first == shipped && Set(space).count == space.count && space.count > 4, "\(row)")
        #expect(space.allSatisfy { $0.source == shipped.source && $0.fits(key, device) })
      }
    }
  }

  /// A tile must fit into the registers: 16 of 8 floats, or 32 of 16.
  @Test func narrowVectorsHaveSmallerTiles() throws {
    var device = try #require(OpenCLDevices.all().first)
    /// Vectors of 16 floats.
    func tile(_ vectorWidth: Int?) throws -> Int {
      device.vectorWidth = vectorWidth
      let parameters = TuningTable.parameters(Self.key, on: device)
      guard case .panels(let panels) = parameters else { return 0 }
      return panels.tileRows * panels.tileVectors
    }
    #expect(try [4, 8, 16, nil].map(tile) == [6, 6, 16, 16])
  }

  /// What a card of the least local memory that OpenCL allows is launched with.
  @Test func whatShipsForCardsIsSmall() throws {
    var device = try #require(OpenCLDevices.all().first)
    (device.localMemory, device.maxWorkGroupSize) = (32 << 10, 256)
    let product = TuningKey.product(.gpu, .float32, rows: 4096, columns: 320, inner: 320)
    #expect(TuningParameters.space(product, on: device).contains(.tiled(.plain)))
    for size in [1, 7, 8, 40, 64, 80, 96, 128, 160, 192, 256, 512] {
      let key = TuningKey.attention(.gpu, .float32, queries: 4096, keys: 77, size: size)
      guard case .tiledAttention(let shipped) = TuningTable.parameters(key, on: device) else {
        Issue.record("\(key)")
        continue
      }
      let fitted = shipped.fitted(size: size, localMemory: device.localMemory)
      #expect(fitted.itemQueries == 4 && fitted.isConsistent, "\(size): \(fitted)")
      #expect(fitted.localBytes(size: size) <= device.localMemory && fitted.itemNumbers(size: size) <= 68)
      #expect(fitted.headChunk * ((size + fitted.headChunk - 1) / fitted.headChunk) >= size)
      let space = TuningParameters.space(key, on: device)
      #expect(space.contains(.tiledAttention(.plain)) == (size < 160), "\(size)")
    }
    // Where no form in registers fits, the plain one shrinks.
    let tiny = TiledAttentionParameters().fitted(size: 64, localMemory: 8 << 10)
    #expect(tiny.itemQueries == 1 && tiny.localBytes(size: 64) <= 8 << 10)
  }

  @Test func parametersKeepTheirNames() {
    for parameters in [
      TuningParameters.panels(PanelParameters()), .tiled(TiledParameters()),
      .flashAttention(FlashAttentionParameters()), .tiledAttention(TiledAttentionParameters()),
    ] {
      var values = Dictionary(uniqueKeysWithValues: parameters.values.map { ($0.name, $0.value) })
      #expect(TuningParameters(source: parameters.source, values: values) == parameters)
      values["X"] = 1
      #expect(TuningParameters(source: parameters.source, values: values) == nil)
    }
    #expect(TuningParameters(source: .panels, values: ["MR": 8]) == nil)
    #expect(TuningParameters(source: .norm, values: [:]) == nil)
  }

  // MARK: The cache

  @Test func whatWasFoundIsUsedByLaterProcesses() throws {
    let folder = try TemporaryFolder()
    let first = try backend(folder)
    #expect(first.parameters(Self.key) == first.shippedParameters(Self.key))
    try first.keep(Self.entry)
    #expect(first.parameters(Self.key) == Self.panels(12))
    let second = try backend(folder)
    #expect(second.tunedEntries == [Self.key: Self.entry])
    #expect(second.parameters(Self.key) == Self.panels(12))
    let other = TuningKey.product(.cpu, .float16, rows: 129, columns: 31, inner: 257)
    #expect(second.parameters(other) == second.shippedParameters(other))
    // Two processes add to one file.
    var entry = Self.entry
    entry.key = other
    try first.keep(entry)
    #expect(try Set(backend(folder).tunedEntries.keys) == [Self.key, other])
    #expect(try folder.files().count == 1)
  }

  @Test func whatIsKeptIsListedWithWhetherItIsInForce() throws {
    let folder = try TemporaryFolder()
    let first = try backend(folder)
    #expect(KeptTuning.all(in: folder.url).isEmpty && KeptTuning.of(first.description, in: folder.url) == nil)
    try first.keep(Self.entry)
    let kept = try #require(KeptTuning.of(first.description, in: folder.url))
    #expect(kept.rows.count == 1 && kept.inForce == 1 && kept.rows[0].parameters == "\(Self.panels(12))")
    #expect(abs(kept.rows[0].gain - Self.entry.shippedSeconds / Self.entry.tunedSeconds) < 1)
    #expect(abs(kept.date.timeIntervalSinceNow) < 60)
    try kept.remove()
    #expect(try folder.files().isEmpty && backend(folder).tunedEntries.isEmpty)
    #expect(throws: OpenCLError.self) { try kept.remove() }
    // Of other kernels.
    try backend(folder) { $1 + "\n" }.keep(Self.entry)
    #expect(KeptTuning.all(in: folder.url).map { [$0.rows.count, $0.inForce] } == [[1, 0]])
    // Damaged.
    try folder.write("{", #require(try folder.files().first))
    #expect(KeptTuning.all(in: folder.url).isEmpty)
  }

  @Test func launchesAreMadeWithThem() throws {
    let folder = try TemporaryFolder()
    let backend = try backend(folder)
    let row = try #require(OperationCases.edge.first { $0.inputs.first?.shape == [129, 257] })
    try backend.keep(Self.entry)
    let tuned = try Agreement.check(row, on: Device(backend), dtype: .float32, seed: 1)
    #expect(tuned.passes, "\(tuned)")
    // The trial's own launch is the only one with MR 4.
    let resources = try backend.trying(Self.panels(4)) {
      #expect(backend.parameters(Self.key) == Self.panels(4))
      let tried = try Agreement.check(row, on: Device(backend), dtype: .float32, seed: 1)
      #expect(tried.passes, "\(tried)")
    }
    #expect((resources?.workGroupSize ?? 0) >= 1)
    #expect(backend.parameters(Self.key) == Self.panels(12))
    let nothing = try backend.trying(.tiled(TiledParameters())) {}
    #expect(nothing == nil)
  }

  @Test(arguments: ["truncate", "flip", "empty", "checksum", "version", "device"])
  func damagedCacheIsReportedAndMadeAnew(damage: String) throws {
    let folder = try TemporaryFolder()
    try backend(folder).keep(Self.entry)
    let file = folder.url(try #require(try folder.files().first))
    var text = try String(contentsOf: file, encoding: .utf8)
    switch damage {
    case "truncate": text = String(text.prefix(text.count / 2))
    case "flip": text = text.replacingOccurrences(of: "\"MR\" : 12", with: "\"MR\" : 6")
    case "checksum": text = text.replacingOccurrences(of: "\"checksum\" : \"", with: "\"checksum\" : \"0")
    case "version": text = text.replacingOccurrences(of: "\"version\" : 1", with: "\"version\" : 99")
    case "device": text = text.replacingOccurrences(of: "\"computeUnits\" : ", with: "\"computeUnits\" : 9")
    default: text = ""
    }
    try text.write(to: file, atomically: true, encoding: .utf8)
    let warnings = Warnings()
    let damaged = try backend(folder, logger: Logger(label: "test") { _ in warnings })
    #expect(damaged.parameters(Self.key) == damaged.shippedParameters(Self.key))
    let messages = warnings.messages.withLock { $0 }
    #expect(messages.count == 1 && messages[0].contains("damaged") && messages[0].contains("langevin tune"))
    try damaged.keep(Self.entry)
    let later = Warnings()
    let rebuilt = try backend(folder, logger: Logger(label: "test") { _ in later })
    #expect(rebuilt.parameters(Self.key) == Self.panels(12))
    #expect(later.messages.withLock { $0 }.isEmpty)
  }

  @Test func entriesOfOtherKernelsAreIgnored() throws {
    let folder = try TemporaryFolder()
    try backend(folder).keep(Self.entry)
    let warnings = Warnings()
    let changed = try backend(
      folder, logger: Logger(label: "test") { _ in warnings },
      patch: { $0 == .panels ? $1 + "\n// changed\n" : $1 })
    #expect(changed.parameters(Self.key) == changed.shippedParameters(Self.key))
    #expect(warnings.messages.withLock { $0 }.isEmpty)
    // Another family's change does not matter.
    let other = try backend(folder, patch: { $0 == .norm ? $1 + "\n// changed\n" : $1 })
    #expect(other.parameters(Self.key) == Self.panels(12))
  }

  @Test func entriesThatDoNotFitTheDeviceAreIgnored() throws {
    let folder = try TemporaryFolder()
    var absurd = PanelParameters()
    absurd.itemRows = 7
    var entry = Self.entry
    entry.parameters = .panels(absurd)
    try backend(folder).keep(entry)
    let unmoved = try backend(folder)
    #expect(unmoved.parameters(Self.key) == unmoved.shippedParameters(Self.key))
  }

  @Test func cacheThatCannotBeWrittenIsAnError() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appendingPathComponent("file")
    try Data().write(to: file)
    let index = try #require(OpenCLDevices.all().first { $0.isCPU }).index
    let backend = try OpenCLBackend(index: index, family: .cpu, tuningCache: file)
    #expect {
      try backend.keep(Self.entry)
    } throws: { error in
      guard case OpenCLError.cache(let path, _) = error else { return false }
      return path.hasPrefix(file.path)
    }
    #expect(backend.parameters(Self.key) == Self.panels(12))
  }

  // MARK: The search space

  /// The first operands of rows that are more than a tile of each and no multiple of one, the table's first of
  /// each. The matrix of 1280 x 320 is one that panels divide into groups.
  private static let rows: [(operation: TunedOperation, x: Shape)] = [
    (.product, [129, 257]), (.product, [2, 1280]), (.convolution, [2, 6, 7, 5]), (.attention, [1, 700, 40]),
  ]

  /// Sets among which every value of every parameter occurs; `langevin tune` itself validates what it chooses.
  private static func covering(_ space: [TuningParameters]) -> [TuningParameters] {
    var seen: Set<String> = []
    return space.filter { parameters in
      let values = parameters.values.map { "\($0.name) \($0.value)" }
      defer { seen.formUnion(values) }
      return !seen.isSuperset(of: values)
    }
  }

  private static func row(_ operation: TunedOperation, _ x: Shape, on backend: OpenCLBackend)
    -> (OperationCase, TuningKey)?
  {
    OperationCases.edge.lazy.compactMap { row in
      let specs = row.specs(.float32)
      guard specs.first?.shape == x, let output = try? row.operation(.float32).output(of: specs),
        let key = backend.tuningKey(row.operation(.float32), inputs: specs, output: output),
        key.operation == operation
      else { return nil }
      return (row, key)
    }.first
  }

  @Test(arguments: KernelFamily.allCases)
  func everyParameterValueIsRight(family: KernelFamily) throws {
    let index = try #require(OpenCLDevices.all().first { $0.platform == "Portable Computing Language" }).index
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(index: index, family: family, tuningCache: folder.url)
    let device = Device(backend)
    for (operation, x) in Self.rows {
      let (row, key) = try #require(Self.row(operation, x, on: backend), "\(operation) \(x)")
      let sets = Self.covering(backend.tuningSpace(key))
      #expect(sets.count > 4, "\(sets)")
      for parameters in sets {
        let resources = try backend.trying(parameters) {
          let agreement = try Agreement.check(row, on: device, dtype: .float32, seed: 3)
          #expect(agreement.passes, "\(parameters): \(agreement)")
        }
        #expect(resources != nil, "\(parameters) ran no kernel of its own")
      }
    }
  }

  /// A product's sums are in the order of its inner steps, whatever the tiles are.
  @Test(arguments: KernelFamily.allCases, OpenCLDevices.all().filter(\.isCPU).map(\.index))
  func bitsOfProductsDoNotDependOnTuning(family: KernelFamily, index: Int) throws {
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(index: index, family: family, tuningCache: folder.url)
    let device = Device(backend)
    for (operation, x) in Self.rows where operation != .attention {
      let (row, key) = try #require(Self.row(operation, x, on: backend), "\(operation) \(x)")
      let inputs = try row.make(on: device, dtype: .float32, seed: 4)
      func result() throws -> [UInt32] {
        try Tensor.apply(row.operation(.float32), inputs, on: device).floats().map(\.bitPattern)
      }
      let expected = try result()
      for parameters in Self.covering(backend.tuningSpace(key)) {
        let ran = try backend.trying(parameters) {
          let tuned = try result()
          #expect(tuned == expected, "\(row.name), \(parameters) on \(device.name)")
        }
        #expect(ran != nil, "\(parameters) ran no kernel of its own")
      }
    }
  }
}
