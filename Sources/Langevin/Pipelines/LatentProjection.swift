import LangevinModels
import LangevinTensor

/// A preview of latents without a network: red, green and blue as linear functions of the channels, one pixel a
/// latent.
struct LatentProjection: Sendable, Hashable {
  /// Red, green and blue of each channel of the diffusion model's latents.
  let factors: [SIMD3<Float>]
  /// What is added to the sum over the channels.
  let offset: SIMD3<Float>

  /// Of a latent [1, h, w, C], or of the first frame of a video's, [1, f, h, w, C]: pixels [1, h, w, 3], where -1...1
  /// is black to white. Throws what reading the latent back throws.
  func callAsFunction(_ latent: Tensor) throws -> Tensor {
    let shape = latent.shape
    let (height, width, channels) = (shape[-3], shape[-2], shape[-1])
    precondition(channels == factors.count)
    let frames = try latent.reshaped([shape.count / (height * width * channels), height * width * channels])
    let values = try frames.rows(0..<1).cast(to: .float32).floats()
    var pixels: [Float] = []
    pixels.reserveCapacity(height * width * 3)
    for first in stride(from: 0, to: values.count, by: channels) {
      let color = factors.indices.reduce(offset) { $0 + factors[$1] * values[first + $1] }
      pixels += [color.x, color.y, color.z]
    }
    return try Tensor(pixels, [1, height, width, 3], on: latent.device)
  }
}

extension LatentProjection {
  /// That of an autoencoder's latents, which are known by their channels and by how they are scaled; nil where nobody
  /// has fitted one.
  init?(_ config: AutoencoderKLConfig) {
    func isNear(_ a: Float, _ b: Float) -> Bool { abs(a - b) < 1e-4 }
    let family = Self.families.first {
      $0.projection.factors.count == config.latentChannels && isNear($0.scaling, config.scalingFactor)
        && isNear($0.shift, config.shiftFactor)
    }
    guard let family else { return nil }
    self = family.projection
  }

  /// That of WAN 2.1's latents; nil for an autoencoder of other statistics.
  init?(_ config: AutoencoderKLWanConfig) {
    let published = AutoencoderKLWanConfig()
    guard config.latentsMean == published.latentsMean, config.latentsStd == published.latentsStd else {
      return nil
    }
    self = Self.wan
  }

  private static let families: [(scaling: Float, shift: Float, projection: LatentProjection)] = [
    (0.18215, 0, stableDiffusion), (0.13025, 0, stableDiffusionXL), (1.5305, 0.0609, stableDiffusion3),
    (0.3611, 0.1159, flux), (0.587454, 0, emoji),
  ]

  // Of the published models: as fitted for ComfyUI (comfy/latent_formats.py of 2025).

  static let stableDiffusion = LatentProjection(
    factors: [
      [0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721],
      [-0.2120, -0.2616, -0.7177],
    ], offset: .zero)

  static let stableDiffusionXL = LatentProjection(
    factors: [
      [0.3651, 0.4232, 0.4341], [-0.2533, -0.0042, 0.1068], [0.1076, 0.1111, -0.0362],
      [-0.3165, -0.2492, -0.2188],
    ], offset: [0.1084, -0.0175, -0.0011])

  static let stableDiffusion3 = LatentProjection(
    factors: [
      [-0.0922, -0.0175, 0.0749], [0.0311, 0.0633, 0.0954], [0.1994, 0.0927, 0.0458],
      [0.0856, 0.0339, 0.0902], [0.0587, 0.0272, -0.0496], [-0.0006, 0.1104, 0.0309],
      [0.0978, 0.0306, 0.0427], [-0.0042, 0.1038, 0.1358], [-0.0194, 0.0020, 0.0669],
      [-0.0488, 0.0130, -0.0268], [0.0922, 0.0988, 0.0951], [-0.0278, 0.0524, -0.0542],
      [0.0332, 0.0456, 0.0895], [-0.0069, -0.0030, -0.0810], [-0.0596, -0.0465, -0.0293],
      [-0.1448, -0.1463, -0.1189],
    ], offset: [0.2394, 0.2135, 0.1925])

  static let flux = LatentProjection(
    factors: [
      [-0.0346, 0.0244, 0.0681], [0.0034, 0.0210, 0.0687], [0.0275, -0.0668, -0.0433],
      [-0.0174, 0.0160, 0.0617], [0.0859, 0.0721, 0.0329], [0.0004, 0.0383, 0.0115],
      [0.0405, 0.0861, 0.0915], [-0.0236, -0.0185, -0.0259], [-0.0245, 0.0250, 0.1180],
      [0.1008, 0.0755, -0.0421], [-0.0515, 0.0201, 0.0011], [0.0428, -0.0012, -0.0036],
      [0.0817, 0.0765, 0.0749], [-0.1264, -0.0522, -0.1103], [-0.0280, -0.0881, -0.0499],
      [-0.1262, -0.0982, -0.0778],
    ], offset: [-0.0329, -0.0718, -0.0851])

  static let wan = LatentProjection(
    factors: [
      [-0.1299, -0.1692, 0.2932], [0.0671, 0.0406, 0.0442], [0.3568, 0.2548, 0.1747],
      [0.0372, 0.2344, 0.1420], [0.0313, 0.0189, -0.0328], [0.0296, -0.0956, -0.0665],
      [-0.3477, -0.4059, -0.2925], [0.0166, 0.1902, 0.1975], [-0.0412, 0.0267, -0.1364],
      [-0.1293, 0.0740, 0.1636], [0.0680, 0.3019, 0.1128], [0.0032, 0.0581, 0.0639],
      [-0.1251, 0.0927, 0.1699], [0.0060, -0.0633, 0.0005], [0.3477, 0.2275, 0.2950],
      [0.1984, 0.0913, 0.1861],
    ], offset: [-0.1835, -0.0868, -0.3360])

  /// Of the model that ships along: by `Training/latent_rgb.py` on 64 of its pictures.
  static let emoji = LatentProjection(
    factors: [
      [0.3251, 0.1258, 0.1552], [0.2693, 0.2462, -0.0407], [0.1847, 0.1272, 0.5510],
      [-0.0592, -0.4165, -0.4720],
    ], offset: [0.2998, 0.1080, -0.2312])
}
