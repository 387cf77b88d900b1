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
    // By a head's size alone: a picture of another size needs no other program.
    Row(
      family: .gpu, operations: [.attention], upTo: [.max, .max, 96],
      parameters: .tiledAttention(TiledAttentionParameters())),
    Row(
      family: .gpu, operations: [.attention], upTo: [.max, .max, 192],
      parameters: .tiledAttention(.largeHeads)),
    Row(family: .gpu, operations: [.attention], parameters: .tiledAttention(.largestHeads)),
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
        TiledAttentionParameters.space(size: size, localMemory: device.localMemory)
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
        && p.itemRows <= 512 && p.itemRows % p.tileRows == 0 && p.innerBlock % 128 == 0
    case .tiled(let p):
      return key.operation != .attention && p.isConsistent && p.items <= device.maxWorkGroupSize
        && p.itemSums <= 64 && p.localBytes <= device.localMemory
    case .flashAttention(let p):
      // Drivers of CPUs give a work-item's private memory from its thread's stack.
      return key.operation == .attention && p.tileRows <= 16 && p.tileVectors <= 2
        && p.blockQueries % p.tileRows == 0 && p.blockKeys % 32 == 0
        && p.privateBytes(size: size) <= 192 << 10
    case .tiledAttention(let p):
      let fitted = p.fitted(size: size, localMemory: device.localMemory)
      return key.operation == .attention && p.items <= device.maxWorkGroupSize
        && fitted.isConsistent && fitted.localBytes(size: size) <= device.localMemory
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
  /// The form in vectors wherever an item's sums are worth its reads, and the plain one in several sizes.
  static let space: [TiledParameters] = {
    var all: [TiledParameters] = []
    for tileInner in [8, 16, 32] {
      for (itemsX, itemsY) in [(16, 16), (8, 16), (16, 8), (8, 8)] {
        for (tileRows, tileColumns) in [
          (32, 32), (32, 64), (64, 32), (64, 64), (32, 128), (128, 32), (64, 128), (128, 64), (128, 128),
        ] {
          for stages in [1, 2] {
            var p = TiledParameters()
            (p.itemsX, p.itemsY, p.stages) = (itemsX, itemsY, stages)
            (p.tileRows, p.tileColumns, p.tileInner) = (tileRows, tileColumns, tileInner)
            if p.isConsistent, (16...64).contains(p.itemSums) { all.append(p) }
          }
        }
      }
    }
    for tileInner in [8, 16, 32] {
      for (itemsY, tileRows, tileColumns) in [
        (16, 32, 32), (16, 64, 64), (16, 128, 64), (8, 64, 64), (8, 32, 128),
      ] {
        var p = TiledParameters.plain
        (p.itemsY, p.tileInner, p.tileRows, p.tileColumns) = (itemsY, tileInner, tileRows, tileColumns)
        all.append(p)
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
  /// Those in registers that have room there, and the plain form in several sizes.
  static func space(size: Int, localMemory: Int) -> [TiledAttentionParameters] {
    var all: [TiledAttentionParameters] = []
    for itemQueries in [4, 2, 8, 1] {
      for items in [64, 128, 256] {
        for queries in [8, 16, 32, 64, 128] {
          for keys in [16, 32, 64] {
            let p = TiledAttentionParameters(
              queries: queries, keys: keys, items: items, itemQueries: itemQueries)
            if p.isWorthTrying(size: size, localMemory: localMemory) { all.append(p) }
          }
        }
      }
    }
    return all
  }

  private func isWorthTrying(size: Int, localMemory: Int) -> Bool {
    let fitted = fitted(size: size, localMemory: localMemory)
    // Those that shrink, or whose form changes, would be tried twice.
    guard fitted.isConsistent, fitted.values.map(\.value) == values.map(\.value),
      fitted.localBytes(size: size) <= localMemory
    else { return false }
    guard itemQueries > 1 else { return items < 256 && blockQueries < 64 && blockKeys < 64 }
    return (4...32).contains(lanes) && fitted.itemNumbers(size: size) <= 96
  }
}
