import LangevinDiffusion
import LangevinTensor

/// A request as its pipeline runs it: every setting made and checked, schedules and shapes derived.
public protocol ResolvedRequest: Sendable {
  /// The request with every setting that the pipeline made; those that mean nothing to it are nil. Resolving it
  /// again gives the same.
  var request: GenerationRequest { get }
  /// A line for the user for each setting that has no effect, or that was changed.
  var warnings: [String] { get }
}

/// A sampler and the levels that it goes through.
public struct ResolvedSampling: Sendable {
  /// With the settings of the model's file and of the request.
  public var sampler: any Sampler
  /// The steps that are taken.
  public var schedule: Schedule

  /// A sampler along a schedule.
  public init(_ sampler: any Sampler, along schedule: Schedule) {
    (self.sampler, self.schedule) = (sampler, schedule)
  }

  /// What a model's file says, in so many steps; `otherwise` where it names no sampler.
  ///
  /// Throws `DiffusionError`.
  public init(
    _ file: SchedulerFile, steps: Int, eta: Double = 0, otherwise: SamplerChoice = .ddpm
  ) throws {
    let sampler = try (file.sampler ?? otherwise).make(file, eta: eta)
    self.init(sampler, along: try sampler.schedule(file.noise, steps: steps))
  }
}

// What pipelines resolve a request with.

extension GenerationRequest {
  /// A setting, which is from now on the given value where the request leaves it to the pipeline.
  public mutating func setting<Value>(
    _ path: WritableKeyPath<GenerationRequest, Value?>, or value: @autoclosure () -> Value
  ) -> Value {
    let made = self[keyPath: path] ?? value()
    self[keyPath: path] = made
    return made
  }

  /// Each prompt, with the negative prompt where there is guidance.
  public func prompts(_ guidance: Guidance) -> [Conditioned<String>] {
    prompts.map { Conditioned($0, negative: guidance.isUsed ? negativePrompt : nil) }
  }

  /// Guidance, of this scale where the request has none.
  public mutating func guidance(or scale: Double) -> Guidance {
    Guidance(
      scale: setting(\.guidance, or: scale), rescale: guidanceRescale ?? 0,
      interval: guidanceInterval ?? 0 ... .infinity)
  }

  /// The sampler and its steps over a model's noise, with these where the request has none.
  ///
  /// Throws `DiffusionError`.
  public mutating func sampling(_ file: SchedulerFile, steps: Int, sampler: SamplerChoice) throws
    -> ResolvedSampling
  {
    let made = try setting(\.sampler, or: sampler).make(file, eta: eta)
    let schedule = try made.schedule(file.noise, steps: setting(\.steps, or: steps), choosing: levels)
    return ResolvedSampling(made, along: schedule)
  }

  /// Width and height, which where the request has none are those of its canvas, picture or control picture, rounded
  /// down, or `size`.
  ///
  /// Throws `GenerationError.badRequest` unless they are multiples of `multiple` up to 16384.
  public mutating func size(or size: (width: Int, height: Int), multiple: Int) throws -> (
    width: Int, height: Int
  ) {
    let picture = image ?? controls.first?.picture
    func rounded(_ side: Int?) -> Int? { side.map { max($0 / multiple * multiple, multiple) } }
    let (w, h) = (
      width ?? rounded(canvas?.width ?? picture?.width) ?? size.width,
      height ?? rounded(canvas?.height ?? picture?.height) ?? size.height
    )
    for (name, pixels) in [("width", w), ("height", h)] {
      guard pixels > 0, pixels <= 16_384, pixels % multiple == 0 else {
        throw GenerationError.badRequest(
          "\(name) must be a multiple of \(multiple) up to 16384 for this model, got \(pixels)")
      }
    }
    (width, height) = (w, h)
    return (w, h)
  }

  /// Throws `GenerationError.badRequest` where initial latents do not have this shape [images, C, spatial...].
  public func checkInitialLatents(_ expected: Shape) throws {
    guard let initial = initialLatents else { return }
    guard images.isEmpty else {
      throw GenerationError.badRequest("initial latents and an image exclude each other")
    }
    guard initial.shape == expected, initial.values.count == expected.count else {
      throw GenerationError.badRequest(
        "the initial latents have shape \(initial.shape), expected \(expected)")
    }
  }

  /// A line for each setting of a sampler or of guidance that has no effect in this request.
  public func idleSettings(_ guidance: Guidance) -> [String] {
    var lines = idleEta
    if guidance.isUsed { return lines }
    if !negativePrompt.isEmpty {
      lines.append("the negative prompt has no effect without guidance (above 1)")
    }
    if guidanceRescale != nil || guidanceInterval != nil {
      lines.append("guidance's rescale and interval have no effect without guidance (above 1)")
    }
    return lines
  }

  /// A line where a picture has other proportions than what is made of it.
  func fitWarning(_ ownWidth: Int, _ ownHeight: Int, _ name: String, width: Int, height: Int) -> String? {
    guard ownWidth * height != ownHeight * width else { return nil }
    let way =
      switch imageFit {
      case .crop: "cropped and resized"
      case .pad: "resized and padded"
      case .stretch: "stretched"
      }
    return "the \(name) of \(ownWidth)x\(ownHeight) is \(way) to \(width)x\(height)"
  }

  /// A line where the sampler takes no eta.
  var idleEta: [String] {
    guard eta != 0, let sampler, !sampler.takesEta else { return [] }
    return ["eta has no effect on the sampler \(sampler.name)"]
  }
}
