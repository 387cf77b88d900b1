import Foundation
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

extension AutoencoderTask {
  /// Pictures that run at once where nothing is learnt.
  private static let group = 8

  /// The first eight withheld pictures, or the first eight of the data where none is, above their reconstructions.
  public func samples(_ weights: NetworkWeights, _ check: () throws -> Void) throws -> Picture? {
    let network = try AutoencoderKL(config, Weights(weights("vae"), on: context.device))
    let shown = Array((withheld.isEmpty ? Array(context.data.pictures.indices) : withheld).prefix(Self.group))
    let originals = try shown.map(framed)
    return try .grid(originals + reconstructions(of: originals, network), columns: shown.count)
  }

  /// `psnr`: the mean over the withheld pictures of their reconstructions' peak signal-to-noise ratio, in dB.
  public func figures(_ weights: NetworkWeights) throws -> [(name: String, value: Double)] {
    guard !withheld.isEmpty else { return [] }
    let network = try AutoencoderKL(config, Weights(weights("vae"), on: context.device))
    var ratios: [Double] = []
    for start in stride(from: 0, to: withheld.count, by: Self.group) {
      let originals = try withheld[start..<min(start + Self.group, withheld.count)].map(framed)
      ratios += try zip(originals, reconstructions(of: originals, network)).map { $0.signalToNoise(of: $1) }
    }
    return [("psnr", ratios.reduce(0, +) / Double(ratios.count))]
  }

  /// A picture of the context's data as it is seen without crops and mirrors.
  private func framed(_ index: Int) throws -> Picture {
    let framing = Framing(width: batches.framing.width, height: batches.framing.height)
    return framing.sized(try context.data.picture(index))
  }

  /// Through the means of their posteriors.
  private func reconstructions(of originals: [Picture], _ network: AutoencoderKL) throws -> [Picture] {
    let pictures = try Tensor.concatenated(originals.map { try $0.tensor(on: context.device) }, axis: 0)
    let decoded = try network.decode(network.encode(pictures).mean)
    return try originals.indices.map { try Picture(decoded.rows($0..<$0 + 1)) }
  }

  /// What makes the deviation of latents 1, over up to 256 of the pictures that are learnt from: one over the root of the
  /// variance of their means and of their draws together. arXiv:2112.10752, appendix G.
  func scalingFactor(_ network: AutoencoderKL) throws -> Float {
    let count = batches.data.pictures.count
    let chosen = (0..<min(count, 256)).map { $0 * count / min(count, 256) }
    let framing = Framing(width: batches.framing.width, height: batches.framing.height)
    var (sum, squares, number) = (0.0, 0.0, 0.0)
    for start in stride(from: 0, to: chosen.count, by: Self.group) {
      let pictures = try chosen[start..<min(start + Self.group, chosen.count)].map { index in
        try framing.sized(batches.data.picture(index)).tensor(on: context.device)
      }
      let posterior = try network.encode(.concatenated(pictures, axis: 0))
      let variances = try posterior.logVariance.map(.exp).floats()
      for (mean, variance) in zip(try posterior.mean.floats(), variances) {
        sum += Double(mean)
        squares += Double(mean) * Double(mean) + Double(variance)
        number += 1
      }
    }
    let variance = squares / number - (sum / number) * (sum / number)
    guard variance.isFinite, variance > 0 else {
      throw EmbeddingError.nonFinite(stage: "the autoencoder's latents")
    }
    return Float(1 / variance.squareRoot())
  }
}

extension Picture {
  /// In dB, of 255 against the root of the mean square error; at most 100, which no error reaches.
  func signalToNoise(of other: Picture) -> Double {
    let error = zip(pixels, other.pixels).reduce(0.0) { sum, pair in
      let difference = Double(pair.0) - Double(pair.1)
      return sum + difference * difference
    }
    guard error > 0 else { return 100 }
    return min(100, 10 * log10(255 * 255 * Double(pixels.count) / error))
  }
}
