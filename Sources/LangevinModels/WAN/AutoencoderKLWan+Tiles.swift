import LangevinTensor

/// Overlapping squares of a video, which are decoded one after the other.
public struct WanTiles: Sendable, Hashable {
  /// Pixels of a square's side.
  public var size: Int
  /// Pixels from one square to the next; what is left is the overlap, in which the one fades into the other.
  public var stride: Int

  /// Multiples of the autoencoder's `downscale`; by default those of diffusers.
  public init(size: Int = 256, stride: Int = 192) {
    self.size = size
    self.stride = stride
  }
}

extension AutoencoderKLWan {
  /// Latents [N, f, h, w, latentChannels] -> videos [N, F, H, W, outChannels] in -1...1, so that memory is that of a
  /// tile, and of the video itself; diffusers' `tiled_decode`.
  ///
  /// A frame that fits into one tile is decoded as without. Throws `ModelError.invalidInput`.
  public func decode(_ latents: Tensor, in tiles: WanTiles) throws -> Tensor {
    let scale = config.downscale
    guard tiles.stride > 0, tiles.stride <= tiles.size, tiles.size % scale == 0, tiles.stride % scale == 0
    else {
      throw invalid(
        "tiles of \(tiles.size) pixels every \(tiles.stride): the first must be no less than the second, and both "
          + "multiples of \(scale)")
    }
    try check(latents, channels: config.latentChannels, what: "latent")
    let (height, width) = (latents.shape[2], latents.shape[3])
    let (size, step) = (tiles.size / scale, tiles.stride / scale)
    guard height > size || width > size else { return try decode(latents) }

    let overlap = tiles.size - tiles.stride
    var rows: [Tensor] = []
    var above: [Tensor] = []
    for y in stride(from: 0, to: height, by: step) {
      var row: [Tensor] = []
      for x in stride(from: 0, to: width, by: step) {
        let latent = try latents.sliced(y..<min(y + size, height), axis: 2)
          .sliced(x..<min(x + size, width), axis: 3)
        var tile = try unclampedVideos(latent)
        if y > 0 { tile = try AutoencoderKLWan.fade(above[row.count], into: tile, axis: 2, overlap: overlap) }
        if x > 0 {
          tile = try AutoencoderKLWan.fade(row[row.count - 1], into: tile, axis: 3, overlap: overlap)
        }
        row.append(tile)
      }
      let kept = try row.map { tile in
        try tile.sliced(0..<min(tiles.stride, tile.shape[2]), axis: 2)
          .sliced(0..<min(tiles.stride, tile.shape[3]), axis: 3)
      }
      rows.append(try Tensor.concatenated(kept, axis: 3))
      above = row
    }
    return try Tensor.concatenated(rows, axis: 2).clamped(-1, 1)
  }

  /// The second tensor, which along its first `overlap` places comes out of the first one's last.
  private static func fade(_ a: Tensor, into b: Tensor, axis: Int, overlap: Int) throws -> Tensor {
    let extent = min(overlap, a.shape[axis], b.shape[axis])
    guard extent > 0 else { return b }
    let weights = (0..<extent).map { Float($0) / Float(extent) }
    let shape = Shape((0..<b.shape.rank).map { $0 == axis ? extent : 1 })
    let weight = try Tensor(weights, shape, on: b.device).cast(to: b.dtype)
    let end = try a.sliced(a.shape[axis] - extent..<a.shape[axis], axis: axis)
    let start = try b.sliced(0..<extent, axis: axis)
    let mixed = try end + (start - end) * weight
    if extent == b.shape[axis] { return mixed }
    return try Tensor.concatenated([mixed, b.sliced(extent..<b.shape[axis], axis: axis)], axis: axis)
  }
}
