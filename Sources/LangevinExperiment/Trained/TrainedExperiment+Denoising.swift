import Foundation
import Langevin
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

extension TrainedExperiment {
  /// A network in pixels with what it was trained towards.
  struct PlainDenoiser {
    let model: UNet2DModel

    func network(_ x: Tensor, _ timestep: Float) throws -> Tensor {
      try model(x, timesteps: [Float](repeating: timestep, count: x.shape[0]))
    }
  }

  /// One step of the chain on some samples: where it comes from, where it arrives, and what it learns from.
  private struct ChainStep {
    var timesteps: [Float]
    /// x_t, and the noise on it.
    var noisy, noise: Tensor
    /// x_{t-1}, and its mean given x_t and the picture.
    var previous, previousMean: Tensor
    /// By which the noise of x_t becomes the mean of x_{t-1}: `mean = x_t a - noise b`.
    var factors: (x: Tensor, noise: Tensor)
  }

  private func chainStep(_ numbers: Range<UInt64>) throws -> ChainStep {
    let alphas = try scheduler.noise.alphasCumprod().map(Double.init)
    let clean = try pictures.tensor(numbers.map(pictures.sample), on: device)
    let timesteps = noisiness(numbers).timesteps.map { max(Int($0), 1) }
    func column(_ body: (Int) -> Double) throws -> Tensor {
      try Tensor(timesteps.map { Float(body($0)) }, [numbers.count, 1, 1, 1], on: device)
    }
    func beta(_ t: Int) -> Double { 1 - alphas[t] / alphas[t - 1] }
    let first = try TrainingNoise.noise(numbers, Self.shape, seed: seed, on: device)
    let second = try TrainingNoise.posterior(numbers, Self.shape, seed: seed, on: device)
    let previous =
      try clean * column { alphas[$0 - 1].squareRoot() }
      + first * column { (1 - alphas[$0 - 1]).squareRoot() }
    let noisy =
      try previous * column { (1 - beta($0)).squareRoot() } + second * column { beta($0).squareRoot() }
    let noise =
      try (noisy - clean * column { alphas[$0].squareRoot() }) / column { (1 - alphas[$0]).squareRoot() }
    // arXiv:2006.11239, eq. 11.
    let factors = (
      x: try column { 1 / (1 - beta($0)).squareRoot() },
      noise: try column { beta($0) / ((1 - alphas[$0]) * (1 - beta($0))).squareRoot() }
    )
    return ChainStep(
      timesteps: timesteps.map(Float.init), noisy: noisy, noise: noise, previous: previous,
      previousMean: try noisy * factors.x - noise * factors.noise, factors: factors)
  }

  private static func meanSquare(_ x: Tensor) throws -> Tensor {
    try x.map(.square).reduced(.mean, axes: [0, 1, 2, 3]).reshaped([1])
  }

  /// The same network trained twice, towards the noise and towards the previous step of the chain.
  func noiseAsTarget() throws -> (ExperimentSection, PlainDenoiser) {
    let config = try SmallModels.plainUNet()
    func task(_ loss: @escaping @Sendable (ChainStep, Tensor) throws -> Tensor) -> SmallTask {
      SmallTask(
        start: SmallModels.unetStart(seed), build: { _ = try UNet2DModel(config, $0) },
        loss: { numbers, weights in
          let step = try self.chainStep(numbers)
          let output = try UNet2DModel(config, weights)(step.noisy, timesteps: step.timesteps)
          return try Self.meanSquare(loss(step, output))
        })
    }
    let towardsNoise = task { step, output in try output - step.noise }
    let towardsPrevious = task { step, output in try output - step.previous }
    // With fewer, a chain without noise does not settle yet.
    let models = try [towardsNoise, towardsPrevious].map {
      try UNet2DModel(config, Weights(train($0, steps: max(steps, 600)), on: device))
    }

    // On pictures that neither has seen.
    let fresh = UInt64(1 << 40)
    var errors = [0.0, 0.0]
    let rounds = 4
    for round in 0..<UInt64(rounds) {
      let step = try chainStep(fresh + round * UInt64(batch)..<fresh + (round + 1) * UInt64(batch))
      let noise = try models[0](step.noisy, timesteps: step.timesteps)
      let guesses = [
        try step.noisy * step.factors.x - noise * step.factors.noise,
        try models[1](step.noisy, timesteps: step.timesteps),
      ]
      for (index, guess) in guesses.enumerated() {
        errors[index] += Double(try Self.meanSquare(guess - step.previousMean).floats()[0]) / Double(rounds)
      }
    }
    // One network that says the noise, early in its training, and two errors of what it says: of the noise, and of the
    // previous step that follows from it.
    let young = try train(towardsNoise, steps: 40)
    let viaPrevious = task { step, output in
      try step.noisy * step.factors.x - output * step.factors.noise - step.previous
    }
    let spreads = try [towardsNoise, viaPrevious].map { try gradientSpread($0, at: young) }
    let ratios = (error: errors[1] / errors[0], spread: spreads[1] / spreads[0])
    var chart = Panel(
      "mean square error of the previous step's mean", x: 110, y: 40, width: 320, height: 240,
      horizontal: Axis(range: 0...3, ticks: [], title: ""),
      vertical: Axis(range: 1e-6...1, isLogarithmic: true, ticks: [1e-6, 1e-4, 1e-2, 1]))
    chart.bars(errors, [.blue, .vermilion])
    var second = Panel(
      "variance of the gradient, in units of its mean's square", x: 560, y: 40, width: 320, height: 240,
      horizontal: Axis(range: 0...3, ticks: [], title: ""),
      vertical: Axis(range: 0.1...1e4, isLogarithmic: true, ticks: [0.1, 10, 1000]))
    second.bars(spreads, [.blue, .vermilion])
    var drawing = Drawing(width: 960, height: 340)
    drawing.add(chart)
    drawing.add(second)
    drawing.legend(
      [("trained towards the noise", .blue, false), ("towards the previous step", .vermilion, false)], x: 250,
      y: 320)
    let section = ExperimentSection(
      title: "The noise is the better target",
      text: """
        Two UNets start alike and see the same noisy pictures in training. One learns to say which noise is on \
        them, the other the picture one step of the chain before. Both are then asked for the mean of the previous \
        step, of pictures that they never saw. The second was trained for just that, and has to carry the whole \
        picture through all layers; the first only says what is to be taken away. Its gradient is also steadier: the \
        previous step is mostly noise that nobody can know.
        """,
      claims: [
        Claim(
          "target.error", "Error of the network trained towards the previous step, in units of the other's",
          ratios.error, in: 2...10_000),
        Claim(
          "target.variance",
          "Variance of its gradient, relative to the mean's square, in units of the other's",
          ratios.spread, in: 1.2...10_000),
      ], figure: drawing.svg)
    return (section, PlainDenoiser(model: models[0]))
  }

  /// The variance of a batch's gradient over batches, divided by the square of its mean.
  private func gradientSpread(_ task: SmallTask, at weights: any WeightSource) throws -> Double {
    let first = UInt64(1 << 41)
    let count = 12
    var gradients: [[Float]] = []
    for round in 0..<UInt64(count) {
      let tape = Tape()
      let watched = WatchedWeights(weights, by: tape)
      let numbers = first + round * UInt64(batch)..<first + (round + 1) * UInt64(batch)
      let loss = try task.loss(of: numbers, Weights(watched, on: device))
      let leaves = watched.parameters.sorted { $0.key < $1.key }.map(\.value)
      gradients.append(try tape.gradients(of: loss, at: leaves).flatMap { try $0?.floats() ?? [] })
    }
    var (variance, square) = (0.0, 0.0)
    for place in gradients[0].indices {
      let values = gradients.map { Double($0[place]) }
      let mean = values.reduce(0, +) / Double(count)
      let spread = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count - 1)
      variance += spread
      // The mean of a few has some of the variance in it.
      square += mean * mean - spread / Double(count)
    }
    return variance / max(square, 1e-30)
  }

  // MARK: Sampling

  /// The root mean square distance of pictures from a picture.
  private func spread(_ x: [Float], around center: [Float]) -> Double {
    let sum = x.indices.reduce(0.0) {
      let d = Double(x[$1] - center[$1 % center.count])
      return $0 + d * d
    }
    return (sum / Double(x.count)).squareRoot()
  }

  private func meanPicture(_ x: [Float], count: Int) -> [Float] {
    let size = x.count / count
    return (0..<size).map { place in
      (0..<count).reduce(Float(0)) { $0 + x[$1 * size + place] } / Float(count)
    }
  }

  /// Pictures that no training saw.
  func freshPictures(_ count: Int) throws -> Tensor {
    try pictures.tensor(
      (0..<UInt64(count)).map { pictures.sample(1 << 42 + $0) }, on: device)
  }

  /// The trained chain with and without the noise that its steps add.
  func collapse(_ denoiser: PlainDenoiser) throws -> ExperimentSection {
    let full = try sample(.ddpm, steps: scheduler.noise.trainTimesteps, count: samples, denoiser.network)
    var silent = try SamplerChoice.ddpm.make(scheduler).schedule(
      scheduler.noise, steps: scheduler.noise.trainTimesteps)
    // DDPM's step without its last term; see the experiment without training.
    silent.steps = silent.steps.map { step in
      var mean = step
      mean.to.sigma *= step.from.alpha * step.to.sigma / (step.to.alpha * step.from.sigma)
      return mean
    }
    let seeds = (0..<UInt64(samples)).map { seed &* 0x9E37_79B9 &+ $0 }
    var noise = NoiseSource(.philox, seeds: seeds, on: device)
    let shape = Shape([samples] + Self.shape.dimensions)
    let start = try silent.initial(noise: noise.normal(shape, for: .initial))
    let mean = try DDIMSampler().sample(
      NetworkDenoiser(.epsilon, denoiser.network), from: start, along: silent, noise: &noise)
    func diversity(_ x: Tensor) throws -> Double {
      let values = try x.floats()
      return spread(values, around: meanPicture(values, count: x.shape[0]))
    }
    let own = try diversity(freshPictures(512))
    let (lively, still) = (try diversity(full) / own, try diversity(mean) / own)
    var drawing = Drawing(width: 960, height: 190)
    try drawing.pictures(freshPictures(32), title: "data", x: 20, y: 40)
    try drawing.pictures(full.rows(0..<32), title: "DDPM", x: 340, y: 40)
    try drawing.pictures(mean.rows(0..<32), title: "DDPM without its noise", x: 660, y: 40)
    return ExperimentSection(
      title: "Without the noise term, a trained chain collapses to the mean",
      text: """
        The network that was trained towards the noise, run backwards through all \(scheduler.noise.trainTimesteps) steps: as \
        DDPM does it, and with the noise left out that each step adds. Then every picture is drawn towards the mean of \
        all, until what is nearest to the mean decides: whatever the noise that they begin with, they end alike.
        """,
      claims: [
        Claim(
          "collapse.ddpm", "DDPM: how much pictures differ from each other, in units of the data's", lively,
          in: 0.7...1.3),
        Claim("collapse.silent", "Without the noise term: the same", still, in: 0...0.5),
      ], figure: drawing.svg)
  }

  /// Fewer steps of the same network.
  func fewSteps(_ denoiser: PlainDenoiser) throws -> ExperimentSection {
    let data = try freshPictures(1024).floats()
    let size = data.count / 1024
    func distance(_ x: Tensor) throws -> Double {
      let values = try x.floats()
      var sum = 0.0
      for index in 0..<x.shape[0] {
        var nearest = Float.infinity
        for other in 0..<1024 {
          var square: Float = 0
          for place in 0..<size {
            let d = values[index * size + place] - data[other * size + place]
            square += d * d
          }
          nearest = min(nearest, square)
        }
        sum += Double(nearest)
      }
      return sum / Double(values.count)
    }
    let counts = [5, 10, 20, 50, 200]
    var curves: [Series] = []
    var shown: [Tensor] = []
    for sampler in [SamplerChoice.ddim, .ddpm] {
      var series = Series(name: sampler.title, x: counts.map(Double.init), y: [])
      for count in counts {
        let result = try sample(sampler, steps: count, count: samples, denoiser.network)
        if count == 10 { shown.append(try result.rows(0..<32)) }
        series.y.append(try distance(result))
      }
      curves.append(series)
    }
    let floor = try distance(pictures.tensor((0..<64).map { pictures.sample(1 << 43 + $0) }, on: device))
    var drawing = Drawing(width: 960, height: 340)
    var chart = Panel(
      "distance to the nearest picture", x: 90, y: 40, width: 300, height: 220,
      horizontal: Axis(range: 4...250, isLogarithmic: true, ticks: [5, 10, 20, 50, 200], title: "steps"),
      vertical: Axis(range: 0.003...3, isLogarithmic: true, ticks: [0.01, 0.1, 1]))
    chart.series(curves[0], .blue)
    chart.series(curves[1], .vermilion)
    drawing.add(chart)
    drawing.legend([("DDIM", .blue, false), ("DDPM", .vermilion, false)], x: 120, y: 325)
    try drawing.pictures(shown[0], title: "DDIM, 10 steps", x: 400, y: 40)
    try drawing.pictures(shown[1], title: "DDPM, 10 steps", x: 682, y: 40)
    return ExperimentSection(
      title: "Fewer steps need no other training",
      text: """
        The same network again, by DDIM and DDPM, with fewer steps than the \(scheduler.noise.trainTimesteps) that it was trained with. The number is the mean square distance of a \
        picture to the nearest of 1024 that were drawn like the data; pictures drawn like the data are at \
        \(String(format: "%.3f", floor)) from them.
        """,
      claims: [
        Claim(
          "steps.ddim_10", "DDIM in 10 steps: distance in units of that in 200",
          curves[0].y[1] / curves[0].y[4],
          in: 0.5...2),
        Claim(
          "steps.ddpm_10", "DDPM in 10 steps: distance in units of that in 200",
          curves[1].y[1] / curves[1].y[4],
          in: 0.5...2.5),
      ], series: curves, figure: drawing.svg)
  }
}
