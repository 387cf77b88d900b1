import LangevinTensor

/// Means and variances of group norms over a whole picture, for a network that sees it tile by tile.
///
/// A tile's own statistics differ from its neighbour's, and the seam shows. Here every norm takes those of all tiles:
/// while tiles are measured, those that were measured so far and the tile itself, each as it was last seen. What a
/// tile measures depends on what the norms before took, so that going over the tiles again comes closer to the
/// statistics that the whole picture has.
public final class GroupStatistics {
  /// The part of a picture that a tile stands for, in the tile's own rows and columns before the network.
  public struct Region: Sendable, Hashable {
    /// The tile's number.
    public var tile: Int
    /// The tile's extents in pixels.
    public var height, width: Int
    /// Those that no other tile stands for.
    public var rows, columns: Range<Int>

    /// A part of a tile of this size.
    public init(tile: Int, height: Int, width: Int, rows: Range<Int>, columns: Range<Int>) {
      (self.tile, self.height, self.width) = (tile, height, width)
      (self.rows, self.columns) = (rows, columns)
    }
  }

  /// What of the next tile is measured; nil measures nothing.
  public var region: Region?
  /// Of each norm, by tile: one an image and group.
  private var moments: [String: [Int: [Moments]]] = [:]

  /// Nothing is measured: every norm takes its tile's own statistics.
  public init() {}

  /// x [N, H, W, C] by the statistics of the norm of this name, else by its own; H and W may be those of the region's
  /// tile times or divided by a power of two.
  func normalized(
    _ x: Tensor, _ gamma: Tensor, _ beta: Tensor, _ norm: GroupNorm, name: String
  ) throws -> Tensor {
    if let region {
      moments[name, default: [:]][region.tile] = try GroupStatistics.measured(x, region, groups: norm.groups)
    }
    guard let tiles = moments[name] else {
      return try x.groupNorm(
        gamma, beta, groups: norm.groups, epsilon: norm.epsilon, activation: norm.activation)
    }
    let (count, channels) = (x.shape[0], x.shape[3])
    let all = (0..<count * norm.groups).map { index in
      tiles.values.reduce(into: Moments()) { $0.add($1[index]) }
    }
    func perChannel(_ value: (Moments) -> Double) throws -> Tensor {
      let values = all.flatMap { [Float](repeating: Float(value($0)), count: channels / norm.groups) }
      return try Tensor(values, [count, 1, 1, channels], on: x.device)
    }
    let scale = try perChannel { 1 / ($0.variance + Double(norm.epsilon)).squareRoot() }
    let gain = try scale * gamma.cast(to: .float32)
    let shift = try beta.cast(to: .float32) - perChannel(\.mean) * gain
    let y = try x.cast(to: .float32) * gain + shift
    return try (norm.activation == .silu ? y.silu() : y).cast(to: x.dtype)
  }

  private static func measured(_ x: Tensor, _ region: Region, groups: Int) throws -> [Moments] {
    let (height, width, channels) = (x.shape[1], x.shape[2], x.shape[3])
    func scaled(_ range: Range<Int>, _ size: Int, of whole: Int) -> Range<Int> {
      range.lowerBound * size / whole..<range.upperBound * size / whole
    }
    let part = try x.sliced(scaled(region.rows, height, of: region.height), axis: 1)
      .sliced(scaled(region.columns, width, of: region.width), axis: 2).cast(to: .float32)
    let mean = try part.reduced(.mean, axes: [1, 2])
    let variance = try (part - mean).map(.square).reduced(.mean, axes: [1, 2])
    let pixels = Double(part.shape[1] * part.shape[2])
    var result = [Moments](repeating: Moments(), count: x.shape[0] * groups)
    for (index, (mean, variance)) in zip(try mean.floats(), try variance.floats()).enumerated() {
      let channel = Moments(count: pixels, mean: Double(mean), variance: Double(variance))
      result[index / (channels / groups)].add(channel)
    }
    return result
  }
}

/// Of a set of numbers.
private struct Moments {
  var count = 0.0
  var mean = 0.0
  var variance = 0.0

  /// Chan, Golub and LeVeque (1979), eq. 2.1.
  mutating func add(_ other: Moments) {
    let total = count + other.count
    guard total > 0 else { return }
    let share = other.count / total
    let difference = other.mean - mean
    variance =
      variance * (1 - share) + other.variance * share + difference * difference * share * (1 - share)
    mean += difference * share
    count = total
  }
}
