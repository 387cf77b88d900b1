import LangevinTensor

/// What a UNet's output depends on beside the noisy picture and the timestep. Which parts there must be, the
/// network's configuration says. All tensors are in the dtype of the weights.
public struct UNetConditioning: Sendable {
  /// What cross-attention looks at, [N, T, C].
  public var context: Tensor
  /// Which tokens of the context may be looked at, T flags an image; nil means all. Only for networks whose
  /// cross-attention is `UNetBlockKind.simpleCrossAttention`.
  public var contextMask: [[Bool]]?
  /// For networks with `UNet2DConditionConfig.classEmbedding`.
  public var classLabels: UNetClassLabels?
  /// For networks with `UNet2DConditionConfig.textTime`.
  public var textTime: UNetTextTime?
  /// For networks with `UNet2DConditionConfig.timestepConditionChannels`: a vector of that width an image, [N, C],
  /// added to the sinusoids of the timestep. Nil adds nothing.
  public var timestepCondition: Tensor?

  /// Only the context, or with more.
  public init(
    context: Tensor, contextMask: [[Bool]]? = nil, classLabels: UNetClassLabels? = nil,
    textTime: UNetTextTime? = nil, timestepCondition: Tensor? = nil
  ) {
    self.context = context
    self.contextMask = contextMask
    self.classLabels = classLabels
    self.textTime = textTime
    self.timestepCondition = timestepCondition
  }

  /// The same on another device. Throws what the devices throw.
  public func copied(to device: Device) throws -> UNetConditioning {
    var copy = self
    copy.context = try context.copied(to: device)
    if case .vectors(let vectors) = classLabels {
      copy.classLabels = .vectors(try vectors.copied(to: device))
    }
    if let textTime { copy.textTime?.textEmbeds = try textTime.textEmbeds.copied(to: device) }
    copy.timestepCondition = try timestepCondition?.copied(to: device)
    return copy
  }
}

/// What class each picture is of.
public enum UNetClassLabels: Sendable {
  /// One number an image, for `UNetClassEmbedding.table` and `.timestep`.
  case numbers([Float])
  /// One vector an image, [N, C], for the other kinds.
  case vectors(Tensor)
}

/// Stable Diffusion XL's second text input. arXiv:2307.01952, section 2.2.
public struct UNetTextTime: Sendable {
  /// The pooled text, [N, C].
  public var textEmbeds: Tensor
  /// For each image the same number of sizes and positions in pixels: original height and width, the crop's top and
  /// left, target height and width.
  public var timeIDs: [[Float]]

  /// Stable Diffusion XL's additions for N images: text embeddings [N, P], and six numbers for each.
  public init(textEmbeds: Tensor, timeIDs: [[Float]]) {
    self.textEmbeds = textEmbeds
    self.timeIDs = timeIDs
  }
}

/// How class labels join the time embedding, `class_embed_type` in config.json.
public enum UNetClassEmbedding: Sendable, Hashable {
  /// A learned vector for each of `count` classes.
  case table(count: Int)
  /// A number, embedded as a timestep is.
  case timestep
  /// A vector that is a time embedding already.
  case identity
  /// A vector through a two-layer perceptron.
  case projection(inputs: Int)
  /// A vector through one linear layer.
  case simpleProjection(inputs: Int)
}

/// The sizes of Stable Diffusion XL's added embedding.
public struct UNetTextTimeSize: Sendable, Hashable {
  /// Channels of each time id's sinusoids.
  public var timeIDChannels: Int
  /// Channels of the pooled text and all time ids together.
  public var inputs: Int

  /// Both are positive; `timeIDChannels` is even.
  public init(timeIDChannels: Int, inputs: Int) {
    self.timeIDChannels = timeIDChannels
    self.inputs = inputs
  }
}
