import Foundation
import LangevinModels
import LangevinNN
import LangevinTensor

/// How different pictures look to a CLIP's image encoder, which is not trained: the mean square distance of its tokens'
/// states, each of length 1, as arXiv:1801.03924, section 3, does it with features of a convolutional network.
struct PerceptualDistance: Sendable {
  private let encoder: CLIPVisionModel
  /// [3] each: what -1...1 becomes.
  private let (scale, offset): (Tensor, Tensor)

  /// Reads a transformers folder of CLIP. Throws what `CLIPFolder` and loading throw.
  init(_ folder: URL, on device: Device) throws {
    let clip = try CLIPFolder(folder)
    let weights = Weights(clip.weights, on: device, component: "perceptual")
    encoder = try CLIPVisionModel(clip.config.vision, weights["vision_model"])
    let mean = clip.preparation.mean ?? [0, 0, 0]
    let deviation = clip.preparation.deviation ?? [1, 1, 1]
    scale = try Tensor(deviation.map { 0.5 / $0 }, [3], on: device)
    offset = try Tensor(zip(mean, deviation).map { (0.5 - $0) / $1 }, [3], on: device)
  }

  /// Of pictures float32 [N, H, W, 3] in -1...1, a batch of each; float32 [1]. They are resized to the encoder's size.
  func callAsFunction(_ a: Tensor, _ b: Tensor) throws -> Tensor {
    let difference = try states(a) - states(b)
    let each = try difference.map(.square).reduced(.sum, axes: [2])
    return try each.reduced(.mean, axes: [0, 1, 2]).reshaped([1])
  }

  /// [N, tokens, C], rows of length 1.
  private func states(_ pictures: Tensor) throws -> Tensor {
    let size = encoder.config.imageSize
    let fitting =
      pictures.shape[1] == size && pictures.shape[2] == size
      ? pictures : try pictures.resizedBicubic(height: size, width: size)
    let states = try encoder(fitting * scale + offset).lastHiddenState
    return try states * (states.map(.square).reduced(.sum, axes: [2]) + 1e-10).map(.rsqrt)
  }
}
