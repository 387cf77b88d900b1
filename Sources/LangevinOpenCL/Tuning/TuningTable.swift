import LangevinTensor

/// The parameters that ship. Where no device of the family was tuned (`ShippedTuning`) they are by device class and
/// operation: the first row that holds is taken.
struct TuningTable {
  /// What a row asks of a key's sizes: the largest lower end of a bucket, in the order of
  /// `TunedOperation.sizeNames`.
  struct Row {
    var family: KernelFamily
    var operations: [TunedOperation]
    /// Of the device; one that does not say has wide registers.
    var vectorWidthUpTo = Int.max
    var upTo: [Int] = []
    var parameters: TuningParameters
  }

  // GPUs have not been tuned by us: theirs are common ground of published kernels.
  static let rows: [Row] = [
    Row(
      family: .cpu, operations: [.product, .convolution], vectorWidthUpTo: 8,
      parameters: .panels(.narrowVectors)),
    Row(
      family: .cpu, operations: [.attention], vectorWidthUpTo: 8, parameters: .flashAttention(.narrowVectors)
    ),
    Row(family: .cpu, operations: [.product, .convolution], parameters: .panels(PanelParameters())),
    Row(family: .cpu, operations: [.attention], parameters: .flashAttention(FlashAttentionParameters())),
    Row(family: .gpu, operations: [.product, .convolution], parameters: .tiled(TiledParameters())),
    Row(family: .gpu, operations: [.attention], parameters: .tiledAttention(TiledAttentionParameters())),
  ]

  /// What ships for a key on a device: what was found on others of its family, else by its class.
  static func parameters(_ key: TuningKey, on device: DeviceDescription) -> TuningParameters {
    let general = generalParameters(key, on: device)
    guard let found = ShippedTuning.parameters(key, on: device), found.source == general.source,
      found.fits(key, device)
    else { return general }
    return found
  }

  private static func generalParameters(_ key: TuningKey, on device: DeviceDescription) -> TuningParameters {
    let vectorWidth = device.vectorWidth ?? Int.max
    for row in rows where row.family == key.family && row.operations.contains(key.operation) {
      guard vectorWidth <= row.vectorWidthUpTo else { continue }
      if zip(key.lowerSizes, row.upTo).allSatisfy({ $0 <= $1 }) { return row.parameters }
    }
    preconditionFailure("the table has no row for \(key)")
  }
}

extension TuningParameters {
  /// Everything worth trying for a key on a device, the shipped parameters among them.
  static func space(_ key: TuningKey, on device: DeviceDescription) -> [TuningParameters] {
    let shipped = TuningTable.parameters(key, on: device)
    let size = key.operation == .attention ? key.lowerSizes[2] : 0
    let all: [TuningParameters] =
      switch shipped {
      case .panels: PanelParameters.space.map { .panels($0) }
      case .tiled: TiledParameters.space.map { .tiled($0) }
      case .flashAttention: FlashAttentionParameters.space.map { .flashAttention($0) }
      case .tiledAttention:
        // Those that shrink would be tried twice.
        TiledAttentionParameters.space.filter { $0.localBytes(size: size) <= device.localMemory }
          .map { .tiledAttention($0) }
      }
    return [shipped] + all.filter { $0 != shipped && $0.fits(key, device) }
  }

  /// Whether the kernel can be built and launched with these parameters for a key on a device, as far as can
  /// be said without building it.
  func fits(_ key: TuningKey, _ device: DeviceDescription) -> Bool {
    guard values.allSatisfy({ $0.value > 0 }) else { return false }
    let size = key.operation == .attention ? key.lowerSizes[2] : 0
    switch self {
    case .panels(let p):
      return key.operation != .attention && p.tileRows <= 16 && p.tileVectors <= 2
        && p.itemRows <= 512 && p.itemRows % p.tileRows == 0 && p.innerBlock % 2 == 0
    case .tiled(let p):
      return key.operation != .attention && p.itemsX * p.itemsY <= device.maxWorkGroupSize
        && p.tileRows % p.itemsY == 0 && p.tileColumns % p.itemsX == 0
        && p.tileRows / p.itemsY * (p.tileColumns / p.itemsX) <= 64 && p.localBytes <= device.localMemory
    case .flashAttention(let p):
      // Drivers of CPUs give a work-item's private memory from its thread's stack.
      return key.operation == .attention && p.tileRows <= 16 && p.tileVectors <= 2
        && p.blockQueries % p.tileRows == 0 && p.blockKeys % 32 == 0
        && p.privateBytes(size: size) <= 192 << 10
    case .tiledAttention(let p):
      let fitted = p.fitted(size: size, localMemory: device.localMemory)
      return key.operation == .attention && p.items <= device.maxWorkGroupSize
        && p.items % fitted.blockQueries == 0 && fitted.localBytes(size: size) <= device.localMemory
    }
  }
}

extension PanelParameters {
  /// Tiles of the register files of AVX2 and AVX-512, blocks of first-level and second-level caches.
  static let space: [PanelParameters] = {
    var all: [PanelParameters] = []
    for (tileRows, tileVectors, itemRows) in [
      (2, 2, 64), (3, 2, 48), (4, 2, 32), (4, 2, 64), (4, 2, 128), (6, 2, 48), (8, 2, 32), (8, 2, 64),
      (8, 2, 128), (12, 2, 48), (12, 2, 96), (4, 1, 64), (6, 1, 48), (6, 1, 96), (6, 1, 192),
    ] {
      for innerBlock in [256, 512, 1024] {
        for groupKiB in [256, 512, 1024] {
          var p = PanelParameters()
          (p.tileRows, p.tileVectors, p.itemRows) = (tileRows, tileVectors, itemRows)
          (p.innerBlock, p.groupKiB) = (innerBlock, groupKiB)
          all.append(p)
        }
      }
    }
    return all
  }()
}

extension TiledParameters {
  static let space: [TiledParameters] = {
    var all: [TiledParameters] = []
    for (itemsX, itemsY) in [(16, 16), (16, 8), (8, 8)] {
      for tileRows in [32, 64, 128] {
        for tileColumns in [32, 64, 128] {
          for tileInner in [8, 16, 32] {
            var p = TiledParameters()
            (p.itemsX, p.itemsY) = (itemsX, itemsY)
            (p.tileRows, p.tileColumns, p.tileInner) = (tileRows, tileColumns, tileInner)
            all.append(p)
          }
        }
      }
    }
    return all
  }()
}

extension FlashAttentionParameters {
  static let space: [FlashAttentionParameters] = {
    var all: [FlashAttentionParameters] = []
    for (tileRows, tileVectors, blockQueries) in [
      (2, 2, 32), (2, 2, 64), (3, 2, 48), (4, 2, 32), (4, 2, 64), (6, 2, 48), (8, 2, 16), (8, 2, 32),
      (8, 2, 64), (12, 2, 24), (12, 2, 48), (4, 1, 32), (6, 1, 24), (6, 1, 36), (6, 1, 48), (6, 1, 96),
    ] {
      for blockKeys in [64, 128, 256, 512] {
        var p = FlashAttentionParameters()
        (p.blockQueries, p.blockKeys) = (blockQueries, blockKeys)
        (p.tileRows, p.tileVectors) = (tileRows, tileVectors)
        all.append(p)
      }
    }
    return all
  }()
}

extension TiledAttentionParameters {
  static let space: [TiledAttentionParameters] = {
    var all: [TiledAttentionParameters] = []
    for items in [64, 128, 256] {
      for blockQueries in [8, 16, 32, 64] {
        for blockKeys in [16, 32, 64] {
          var p = TiledAttentionParameters()
          (p.blockQueries, p.blockKeys, p.items) = (blockQueries, blockKeys, items)
          all.append(p)
        }
      }
    }
    return all
  }()
}
