import LangevinTensor

extension CPUBackend {
  /// In Swift, which never contracts a product and a sum into one rounding: the bits are the contract.
  func normalNoise(_ noise: NormalNoise, _ y: RawArray) {
    let (out, count) = (y.floats, y.count)
    parallelFor((count + 3) / 4, grain: elementGrain / 16) { _, blocks in
      for block in blocks {
        let normals = NoiseFunction.normals(
          block: UInt32(truncatingIfNeeded: block), seed: noise.seed, stream: noise.stream, step: noise.step)
        for lane in 0..<min(4, count - 4 * block) { out[4 * block + lane] = normals[lane] }
      }
    }
  }
}
