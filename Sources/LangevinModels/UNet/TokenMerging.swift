import LangevinTensor

/// Tokens that are alike, taken for one: token merging for Stable Diffusion, arXiv:2303.17604.
///
/// Of each square of two by two pixels the upper left one stays (the reference can also draw it). Of the others the share
/// that is most like one that stays, by the cosine, is merged into it, and self-attention sees the means. Each token gets
/// the output of the one that it was merged into.
struct TokenMerging: Sendable {
  /// For each token of each image, in which row of the merged tokens it is; int32 [N * T].
  private let places: Tensor
  /// One over how many tokens are merged there, [N, T, 1].
  private let shares: Tensor
  /// Merged tokens an image.
  let count: Int

  /// Of tokens [N, height width, C]. Nil where nothing is to be merged. The places are found on the host.
  init?(_ tokens: Tensor, height: Int, width: Int, ratio: Double) throws {
    let (images, length) = (tokens.shape[0], tokens.shape[1])
    let kept = (0..<height / 2).flatMap { y in (0..<width / 2).map { 2 * y * width + 2 * $0 } }
    let isKept = Set(kept)
    let others = (0..<length).filter { !isKept.contains($0) }
    let merged = min(Int(Double(length) * ratio), others.count)
    guard merged > 0, !kept.isEmpty else { return nil }
    let count = length - merged
    let scores = try Self.cosines(tokens, of: others, with: kept).floats()
    var (places, shares): ([Int32], [Float]) = ([], [])
    for image in 0..<images {
      let rows = image * others.count..<(image + 1) * others.count
      let nearest = rows.map { row in
        scores[row * kept.count..<(row + 1) * kept.count].withUnsafeBufferPointer(Self.maximum)
      }
      let order = others.indices.sorted { (nearest[$1].value, $0) < (nearest[$0].value, $1) }
      // Those that stay alone come first, then those that others are merged into.
      var place = [Int](repeating: 0, count: length)
      for (index, other) in order[merged...].enumerated() { place[others[other]] = index }
      for (index, token) in kept.enumerated() { place[token] = order.count - merged + index }
      for other in order[..<merged] { place[others[other]] = place[kept[nearest[other].index]] }
      var sizes = [Float](repeating: 0, count: count)
      for row in place { sizes[row] += 1 }
      places += place.map { Int32(image * count + $0) }
      shares += place.map { 1 / sizes[$0] }
    }
    self.count = count
    self.places = try Tensor(places, [images * length], on: tokens.device)
    self.shares = try Tensor(shares, [images, length, 1], on: tokens.device).cast(to: tokens.dtype)
  }

  /// How alike two tokens are, [N, rows, columns].
  private static func cosines(_ tokens: Tensor, of rows: [Int], with columns: [Int]) throws -> Tensor {
    let (images, length, channels) = (tokens.shape[0], tokens.shape[1], tokens.shape[2])
    let x = try tokens.cast(to: .float32)
    // A token of zeros is like none.
    let norms = try x.map(.square).reduced(.sum, axes: [2]).affine(scale: 1, offset: 1e-30).map(.sqrt)
    let table = try (x / norms).reshaped([images * length, channels])
    func picked(_ numbers: [Int]) throws -> Tensor {
      let ids = (0..<images).flatMap { image in numbers.map { Int32(image * length + $0) } }
      return try table.embedding(Tensor(ids, [images, numbers.count], on: tokens.device))
    }
    return try picked(rows).matmul(picked(columns), right: .transposed)
  }

  private static func maximum(_ values: UnsafeBufferPointer<Float>) -> (value: Float, index: Int) {
    var best = (value: -Float.infinity, index: 0)
    for (index, value) in values.enumerated() where value > best.value { best = (value, index) }
    return best
  }

  /// The means, [N, count, C], of tokens [N, T, C].
  func merge(_ tokens: Tensor) throws -> Tensor {
    let (images, length, channels) = (tokens.shape[0], tokens.shape[1], tokens.shape[2])
    let parts = try (tokens * shares).reshaped([images * length, channels])
    return try Tensor.apply(.embeddingGradient(rows: images * count), [places, parts])
      .reshaped([images, count, channels])
  }

  /// [N, count, C] -> [N, T, C].
  func unmerge(_ merged: Tensor) throws -> Tensor {
    let (images, channels) = (merged.shape[0], merged.shape[2])
    return try merged.reshaped([images * count, channels]).embedding(places)
      .reshaped([images, places.shape[0] / images, channels])
  }
}
