import LangevinTensor

/// How much memory each stage of a generation needs, found before it runs.
///
/// The pipeline itself runs a few steps on a device that allocates nothing and computes nothing, and the bytes that its
/// tensors would hold are counted, exactly. What a backend keeps beside tensors (what its pool rounds each one up to,
/// scratch space, freed buffers for reuse) is not in it.
public struct MemoryPlan: Sendable {
  /// A part of a generation, from loading a component on.
  public struct Stage: Sendable, Hashable {
    /// The component: `text encoder`, `unet`.
    public var name: String
    /// Held by weights and results when the component is loaded, in bytes.
    public var loaded: Int
    /// The most that is held at once, in bytes.
    public var peak: Int
  }

  /// In the order in which they run.
  public let stages: [Stage]
  /// What the device offers, in bytes.
  public let limit: Int
  /// What runs, each shape once: by it kernels can be compiled before they are needed. Numbers that are parameters of
  /// an operation, as the sampler's coefficients, are those of a few steps.
  public let calls: Set<OperationCall>
  /// The most of all stages, in bytes.
  public var peak: Int { stages.map(\.peak).max() ?? 0 }
  /// Whether the device offers so much.
  public var fits: Bool { limit == 0 || peak <= limit }
  /// Whether all networks and the results of the hungriest stage fit at once, so that networks can stay loaded. What
  /// stages hold in common counts twice, so that this never says yes too often.
  public var fitsTogether: Bool {
    let results = stages.map { $0.peak - $0.loaded }.max() ?? 0
    return limit == 0 || stages.reduce(results) { $0 + $1.loaded } <= limit
  }

  /// Plans a request for a device, in a precision. Throws what the pipeline throws for the request.
  public init(_ request: GenerationRequest, with checkpoint: Checkpoint, precision: DType, on device: Device)
    throws
  {
    let backend = PlanningBackend(like: device.backend)
    let pipeline = try Pipelines.open(checkpoint, on: Device(backend), precision: precision)
    var short = try pipeline.resolved(request).request
    // Every step and every batch holds the same; a few show what is kept between them.
    let most = max(2, short.sampler?.fewestSteps ?? 2)
    short.steps = short.steps.map { min($0, most) }
    short.strength = short.strength.map { _ in 1 }
    short.highResolution?.strength = 1
    // The second step is what those after the gate are.
    if case .tGate = short.cache { short.cache = .tGate(step: 1) }
    short.priorSteps = short.priorSteps.map { min($0, most) }
    short.superResolutionSteps = short.superResolutionSteps.map { min($0, most) }
    let images = min(2 * short.batch, short.imageCount)
    short.count = min(short.count, images)
    short.prompts = Array(short.prompts.prefix(images / short.count))
    (short.initialLatents, short.levels, short.guidanceDevice) = (nil, nil, nil)
    var stages: [Stage] = []
    func close() {
      guard let last = stages.indices.last else { return }
      stages[last].peak = backend.takePeak()
      if stages[last].loaded == 0 { stages[last].loaded = backend.inUse }
    }
    try pipeline.rehearse(short) { event in
      switch event {
      case .loading(let name):
        close()
        _ = backend.takePeak()
        stages.append(Stage(name: name, loaded: 0, peak: 0))
      case .sampling, .decoding:
        if let last = stages.indices.last, stages[last].loaded == 0 { stages[last].loaded = backend.inUse }
      default: break
      }
    }
    close()
    self.stages = stages
    calls = backend.calls
    limit = device.backend.memory.limit
  }
}
