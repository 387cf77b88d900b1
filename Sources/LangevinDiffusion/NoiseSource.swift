import LangevinTensor

/// Which generator's random numbers a seed stands for.
public enum NoiseKind: String, Sendable, CaseIterable {
  /// Philox 4x32-10 in integer arithmetic, on the device: see `NoiseFunction`.
  case philox
  /// torch.randn with a CPU generator per image.
  case torch
  /// torch.randn with a CUDA generator per image.
  case torchCUDA = "torch-cuda"
}

/// What noise is for.
public enum NoiseUse: Sendable, Hashable {
  /// The latent that sampling starts from, or the noise that image-to-image adds.
  case initial
  /// What a stochastic sampler adds in this step of the full schedule.
  case step(Int)
  /// What a stochastic sampler adds half-way through this step of the full schedule.
  case middle(Int)
  /// The draw from the autoencoder's posterior in image-to-image.
  case posterior
  /// The draw from the posterior of a picture of which a part is hidden: what inpainting checkpoints see.
  case maskedPosterior
}

/// Standard normal noise of which image k depends on seed k alone, whatever the batch.
///
/// `.philox` numbers depend on the seed, the use and the position in channels-last order, not on what was drawn
/// before. `.torch` and `.torchCUDA` are sequences, drawn in the order of the calls and laid out [C, spatial...]
/// as PyTorch's tensors are, then transposed; calls must come in the order in which diffusers draws: the
/// posterior if there is one, the initial noise, with a mask the masked picture's posterior, then each step's, the middle's first.
public struct NoiseSource: Sendable {
  /// Whose numbers these are.
  public let kind: NoiseKind
  /// The seed of each image.
  public private(set) var seeds: [UInt64]
  /// Where the noise is made.
  public let device: Device
  /// Philox's numbers differ by it: an image that is made by several trajectories has each draw its own.
  public var trajectory: UInt32 = 0
  private var torch: [TorchGenerator] = []
  private var torchCUDA: [TorchCUDAGenerator] = []

  /// One seed an image.
  public init(_ kind: NoiseKind, seeds: [UInt64], on device: Device) {
    self.kind = kind
    self.seeds = seeds
    self.device = device
    switch kind {
    case .philox: break
    case .torch: torch = seeds.map { TorchGenerator(seed: $0) }
    case .torchCUDA: torchCUDA = seeds.map { TorchCUDAGenerator(seed: $0) }
    }
  }

  /// The images of all of these, which are of one kind and on one device. At least one.
  public init(joining sources: [NoiseSource]) {
    self = sources[0]
    for source in sources.dropFirst() { append(source) }
  }

  private mutating func append(_ other: NoiseSource) {
    seeds += other.seeds
    torch += other.torch
    torchCUDA += other.torchCUDA
  }

  /// The noise of each image by itself, as far as it has come.
  public var images: [NoiseSource] {
    seeds.indices.map { image in
      var single = self
      single.seeds = [seeds[image]]
      single.torch = torch.isEmpty ? [] : [torch[image]]
      single.torchCUDA = torchCUDA.isEmpty ? [] : [torchCUDA[image]]
      return single
    }
  }

  /// Float32 noise of this shape, [N, spatial..., C] with one seed for each of N.
  ///
  /// Throws `DiffusionError.seedCount` where N is not the number of seeds.
  public mutating func normal(_ shape: Shape, for use: NoiseUse) throws -> Tensor {
    guard shape.rank >= 2, shape[0] == seeds.count else {
      throw DiffusionError.seedCount(images: shape.rank > 0 ? shape[0] : 0, seeds: seeds.count)
    }
    let image = shape.replacing(axis: 0, with: 1)
    switch kind {
    case .philox:
      let (stream, step): (UInt32, UInt32) =
        switch use {
        case .initial: (0, 0)
        case .step(let index): (1, UInt32(index))
        case .posterior: (2, 0)
        case .maskedPosterior: (2, 1)
        case .middle(let index): (3, UInt32(index))
        }
      let images = try seeds.map {
        try Tensor.normal(image, seed: $0, stream: stream + 4 * trajectory, step: step, on: device)
      }
      return try Tensor.concatenated(images, axis: 0)
    case .torch:
      return try upload(shape, torch.indices.map { torch[$0].normals(image.count) })
    case .torchCUDA:
      return try upload(shape, torchCUDA.indices.map { torchCUDA[$0].normals(image.count) })
    }
  }

  /// Images in [C, spatial...] order to one tensor, channels last.
  private func upload(_ shape: Shape, _ images: [[Float]]) throws -> Tensor {
    let channels = shape[-1]
    var values: [Float] = []
    values.reserveCapacity(shape.count)
    for image in images {
      let places = channels > 0 ? image.count / channels : 0
      for place in 0..<places {
        for channel in 0..<channels { values.append(image[channel * places + place]) }
      }
    }
    return try Tensor(values, shape, on: device)
  }
}
