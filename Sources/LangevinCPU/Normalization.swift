import CVectorMath
import LangevinTensor

/// Normalisations along rows and over groups of channels. Variances are means of squared deviations from the
/// mean, never mean(x^2) - mean^2, which cancels where the mean is large. What the rounding of the mean to float
/// leaves over goes into the shift: where the variance is small, it would be seen.
extension CPUBackend {
  func layerNorm(_ norm: LayerNorm, _ x: [FloatArray], _ y: MutableFloatArray) {
    let (gamma, beta) = (norm.affine ? x[1].pointer : nil, norm.affine ? x[2].pointer : nil)
    forEachRow(x[0], y) { vm_layer_norm($0, gamma, beta, norm.epsilon, $1, $2) }
  }

  func rmsNorm(_ epsilon: Float, _ x: [FloatArray], _ y: MutableFloatArray) {
    let gamma = x[1].pointer
    forEachRow(x[0], y) { vm_rms_norm($0, gamma, epsilon, $1, $2) }
  }

  func softmax(_ x: FloatArray, _ y: MutableFloatArray) {
    forEachRow(x, y) { vm_softmax($0, $1, $2) }
  }

  private func forEachRow(
    _ x: FloatArray, _ y: MutableFloatArray,
    _ body: (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void
  ) {
    let width = y.shape[-1]
    parallelFor(y.shape.count / width, grain: max(elementGrain / width, 1)) { _, rows in
      for row in rows { body(x.pointer + row * width, y.pointer + row * width, width) }
    }
  }

  func groupNorm(_ norm: GroupNorm, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    let (images, channels, groups) = (y.shape[0], y.shape[-1], norm.groups)
    let pixels = y.shape.count / (images * channels)
    let statistics = try GroupStatistics(norm, x[0], pool: pool)
    let (chunk, chunks) = (statistics.chunk, statistics.chunks)
    let coefficients = try pool.scratch(images * 3 * channels)
    let width = channels / groups
    let (gamma, beta) = (x[1].pointer, x[2].pointer)
    for image in 0..<images {
      let mean = coefficients.floats + image * 3 * channels
      let (scale, shift) = (mean + channels, mean + 2 * channels)
      for group in 0..<groups {
        let (average, factor) = statistics.moments(image: image, group: group)
        for channel in group * width..<(group + 1) * width {
          let gain = factor * Double(gamma[channel])
          mean[channel] = Float(average)
          scale[channel] = Float(gain)
          shift[channel] = Float(Double(beta[channel]) - (average - Double(mean[channel])) * gain)
        }
      }
    }
    parallelFor(images * chunks, grain: 1) { _, range in
      for task in range {
        let (image, start) = (task / chunks, task % chunks * chunk)
        let offset = (image * pixels + start) * channels
        let mean = coefficients.floats + image * 3 * channels
        vm_group_apply(
          x[0].pointer + offset, min(chunk, pixels - start), channels, mean, mean + channels,
          mean + 2 * channels, norm.activation == .silu ? 1 : 0, y.pointer + offset)
      }
    }
    withExtendedLifetime(coefficients) {}
  }
}

/// Each chunk of pixels gives its groups' means and sums of squared deviations while it is in cache; these are then
/// merged (Chan, Golub, LeVeque 1979), so that x is read from memory twice and not three times.
struct GroupStatistics {
  /// Pixels of a chunk, but for an image's last; only the shape decides.
  let chunk: Int
  /// Of an image.
  let chunks: Int
  private let values: [(mean: Double, factor: Double)]
  private let groups: Int

  init(_ norm: GroupNorm, _ x: FloatArray, pool: MemoryPool) throws {
    let (images, channels, groups) = (x.shape[0], x.shape[-1], norm.groups)
    let pixels = x.shape.count / (images * channels)
    let chunk = min(pixels, max(32768 / channels / 8 * 8, 8))
    let chunks = (pixels + chunk - 1) / chunk
    let workers = workerCount(images * chunks, grain: 1)
    let moments = try pool.allocate(byteCount: images * chunks * groups * 2 * 8)
    let sums = try pool.allocate(byteCount: workers * 3 * channels * 8)
    let scratch = sums.pointer.assumingMemoryBound(to: Double.self)
    let means = moments.pointer.assumingMemoryBound(to: Double.self)
    let squares = means + images * chunks * groups

    parallelFor(images * chunks, grain: 1) { worker, range in
      for task in range {
        let (image, start) = (task / chunks, task % chunks * chunk)
        vm_group_moments(
          x.pointer + (image * pixels + start) * channels, min(chunk, pixels - start), channels, groups,
          scratch + worker * 3 * channels, means + task * groups, squares + task * groups)
      }
    }
    let width = channels / groups
    /// A chunk's share of the pixels.
    func weight(_ i: Int) -> Double { Double(min(chunk, pixels - i * chunk)) / Double(pixels) }
    values = [(mean: Double, factor: Double)](unsafeUninitializedCapacity: images * groups) { values, count in
      // Each call writes elements of its own.
      nonisolated(unsafe) let values = values
      parallelFor(images * groups, grain: max(1, elementGrain / 16 / chunks)) { _, range in
        for index in range {
          let (image, group) = (index / groups, index % groups)
          func place(_ i: Int) -> Int { (image * chunks + i) * groups + group }
          var (average, within, between) = (0.0, 0.0, 0.0)
          for i in 0..<chunks { average += weight(i) * means[place(i)] }
          for i in 0..<chunks {
            let deviation = means[place(i)] - average
            within += squares[place(i)]
            between += weight(i) * deviation * deviation
          }
          let variance = within / Double(pixels * width) + between
          (values.baseAddress! + index).initialize(
            to: (average, 1 / (variance + Double(norm.epsilon)).squareRoot()))
        }
      }
      count = images * groups
    }
    (self.chunk, self.chunks, self.groups) = (chunk, chunks, groups)
    withExtendedLifetime((moments, sums)) {}
  }

  /// A group's mean, and one over its deviation.
  func moments(image: Int, group: Int) -> (mean: Double, factor: Double) { values[image * groups + group] }
}
