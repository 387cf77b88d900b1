import CVectorMath
import LangevinTensor

/// Gradients of the norms. Chunks of rows are of a size that only the shape decides, and are added in their order:
/// the result does not depend on the number of cores.
extension CPUBackend {
  /// Inputs x, gamma, beta, g; with h what the activation passes on of g, and y the standardised x,
  /// `dx = scale (gamma h - (mean(gamma h) + y mean(gamma h y)))` with means over a group.
  func groupNormGradient(_ norm: GroupNorm, _ inputs: [FloatArray], _ out: MutableFloatArray) throws {
    let (x, gamma, beta, g) = (inputs[0], inputs[1].pointer, inputs[2].pointer, inputs[3])
    let (images, channels) = (x.shape[0], x.shape[-1])
    let pixels = x.shape.count / (images * channels)
    let statistics = try GroupStatistics(norm, x, pool: pool)
    let (chunks, silu) = (statistics.chunks, Int32(norm.activation == .silu ? 1 : 0))
    let sums = try pool.allocate(byteCount: images * chunks * 2 * channels * 8)
    let coefficients = try pool.scratch(images * 6 * channels)
    let partial = sums.pointer.assumingMemoryBound(to: Double.self)
    // Of each image: mean, scale and offset of the standardised x, then gain, tilt and shift of dx.
    func row(_ image: Int, _ index: Int) -> UnsafeMutablePointer<Float> {
      coefficients.floats + (image * 6 + index) * channels
    }
    let width = channels / norm.groups
    parallelFor(images, grain: max(1, elementGrain / channels)) { _, range in
      for image in range {
        for channel in 0..<channels {
          let (mean, factor) = statistics.moments(image: image, group: channel / width)
          row(image, 0)[channel] = Float(mean)
          row(image, 1)[channel] = Float(factor)
          row(image, 2)[channel] = Float((Double(Float(mean)) - mean) * factor)
        }
      }
    }
    func forEachChunk(_ body: (_ task: Int, _ image: Int, _ offset: Int, _ count: Int) -> Void) {
      parallelFor(images * chunks, grain: 1) { _, range in
        for task in range {
          let (image, start) = (task / chunks, task % chunks * statistics.chunk)
          let count = min(statistics.chunk, pixels - start)
          body(task, image, (image * pixels + start) * channels, count)
        }
      }
    }
    forEachChunk { task, image, offset, count in
      vm_group_gradient_sums(
        x.pointer + offset, g.pointer + offset, count, channels, row(image, 0), row(image, 1), row(image, 2),
        gamma, beta, silu, partial + task * 2 * channels, partial + (task * 2 + 1) * channels)
    }
    // The first chunk of an image gets the sums over all, in their order; then the first image.
    let perImage = chunks * 2 * channels
    parallelFor(images, grain: max(1, elementGrain / perImage)) { _, range in
      for image in range {
        let sums = partial + image * perImage
        let slopes = sums + channels
        for i in 2 * channels..<perImage { sums[i % (2 * channels)] += sums[i] }
        for group in 0..<norm.groups {
          var (mean, tilt) = (0.0, 0.0)
          for channel in group * width..<(group + 1) * width {
            mean += Double(gamma[channel]) * sums[channel]
            tilt += Double(gamma[channel]) * slopes[channel]
          }
          let factor = statistics.moments(image: image, group: group).factor
          let scale = factor / Double(pixels * width)
          for channel in group * width..<(group + 1) * width {
            row(image, 3)[channel] = Float(factor * Double(gamma[channel]))
            row(image, 4)[channel] = Float(-tilt * scale)
            row(image, 5)[channel] = Float(-mean * scale)
          }
        }
      }
    }
    for image in (0..<images).dropFirst() {
      for i in 0..<2 * channels { partial[i] += partial[image * perImage + i] }
    }
    forEachChunk { _, image, offset, count in
      vm_group_gradient(
        x.pointer + offset, g.pointer + offset, count, channels, row(image, 0), row(image, 1), row(image, 2),
        gamma, beta, silu, row(image, 3), row(image, 4), row(image, 5), out.pointer + offset)
    }
    let last = out.pointer + x.shape.count
    for channel in 0..<channels {
      last[channel] = Float(partial[channels + channel])
      last[channels + channel] = Float(partial[channel])
    }
    withExtendedLifetime((sums, coefficients)) {}
  }

  /// Inputs x, and gamma when affine, and g; rows of dx, then dgamma and dbeta when affine.
  func layerNormGradient(_ norm: LayerNorm, _ inputs: [FloatArray], _ out: MutableFloatArray) throws {
    try rowNormGradient(
      inputs[0], gamma: norm.affine ? inputs[1].pointer : nil, inputs[norm.affine ? 2 : 1], out, centred: true
    ) { x, width in
      var (mean, scale, offset): (Float, Float, Float) = (0, 0, 0)
      vm_layer_statistics(x, norm.epsilon, &mean, &scale, &offset, width)
      return (mean, scale, offset)
    }
  }

  /// Inputs x, gamma and g; rows of dx, then dgamma.
  func rmsNormGradient(_ epsilon: Float, _ inputs: [FloatArray], _ out: MutableFloatArray) throws {
    try rowNormGradient(inputs[0], gamma: inputs[1].pointer, inputs[2], out, centred: false) { x, width in
      (0, vm_rms_scale(x, epsilon, width), 0)
    }
  }

  private func rowNormGradient(
    _ x: FloatArray, gamma: UnsafePointer<Float>?, _ g: FloatArray, _ out: MutableFloatArray, centred: Bool,
    statistics: (UnsafePointer<Float>, Int) -> (mean: Float, scale: Float, offset: Float)
  ) throws {
    let width = x.shape[-1]
    let rows = x.shape.count / width
    let chunk = max(16, (rows + 63) / 64)
    let chunks = (rows + chunk - 1) / chunk
    // Of each chunk: the sums for gamma, then those for beta.
    let sums = try pool.allocate(byteCount: chunks * 2 * width * 8)
    let partial = sums.pointer.assumingMemoryBound(to: Double.self)
    partial.update(repeating: 0, count: chunks * 2 * width)
    parallelFor(chunks, grain: 1) { _, range in
      for task in range {
        let slopes = gamma == nil ? nil : partial + task * 2 * width
        let shifts = gamma == nil || !centred ? nil : partial + (task * 2 + 1) * width
        for row in task * chunk..<min((task + 1) * chunk, rows) {
          let source = x.pointer + row * width
          let (mean, scale, offset) = statistics(source, width)
          vm_row_norm_gradient(
            source, g.pointer + row * width, gamma, mean, scale, offset, centred ? 1 : 0,
            out.pointer + row * width, slopes, shifts, width)
        }
      }
    }
    guard gamma != nil else { return withExtendedLifetime(sums) {} }
    for which in 0..<(centred ? 2 : 1) {
      let last = out.pointer + (rows + which) * width
      for channel in 0..<width {
        last[channel] = Float((0..<chunks).reduce(0.0) { $0 + partial[($1 * 2 + which) * width + channel] })
      }
    }
    withExtendedLifetime(sums) {}
  }
}
