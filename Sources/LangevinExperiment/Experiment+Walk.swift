import Foundation
import LangevinDiffusion
import LangevinTensor

extension Experiment {
  /// The random walk forwards and backwards, and what becomes of it without its noise.
  func walk() throws -> [ExperimentSection] {
    let times = [0, 40, 160, 400, 1000]
    let (forward, forwardPaths) = try forwards(times)
    let (backward, backwardPaths) = try backwards(times)

    let data = spiral.points
    let normal = try vectors(normal(3))
    let floor = floor()
    let ends = Distances.slicedWasserstein(backward[0], data)
    let toNormal = Distances.slicedWasserstein(forward[times.count - 1], normal)
    let between = times.indices.dropFirst().map { Distances.slicedWasserstein(forward[$0], backward[$0]) }

    var drawing = Drawing(width: 960, height: 800)
    for (column, time) in times.enumerated() {
      let x = 44 + 184 * Double(column)
      for (row, clouds) in [forward, backward].enumerated() {
        let arrow = row == 0 ? "forwards" : "backwards"
        var panel = Panel(
          "\(arrow), t = \(time)", x: x, y: 30 + 206 * Double(row), width: 168, height: 168,
          labelsX: row == 1, labelsY: column == 0)
        panel.dots(clouds[column], row == 0 ? .blue : .vermilion, radius: 1.2, opacity: 0.6)
        drawing.add(panel)
      }
    }
    for (index, paths) in [forwardPaths, backwardPaths].enumerated() {
      var panel = Panel(
        index == 0 ? "three paths forwards, from the dots" : "three paths backwards, to the dots",
        x: 166 + 350 * Double(index), y: 480, width: 284, height: 284, labelsY: index == 0)
      panel.dots(data, .faint, radius: 1.2, opacity: 1)
      let colors: [Color] = [.blue, .vermilion, .green]
      for (path, color) in zip(paths, colors) {
        panel.line(path, color, width: 0.7, opacity: 0.75)
        panel.dots([path[index == 0 ? 0 : path.count - 1]], color, radius: 5, opacity: 1)
      }
      drawing.add(panel)
    }
    let section = ExperimentSection(
      title: "A random walk forwards, and back",
      text: """
        Forwards, each of 1000 steps shrinks a point a little and adds a little noise, until nothing is left of the \
        spiral. Backwards, DDPM walks from fresh noise: each step goes toward the mean of what the point may have been, \
        and adds noise again. At every time the two clouds are the same distribution, though no path is undone.
        """,
      claims: [
        Claim(
          "walk.forward", "Distance of the walk's end to standard normal noise", toNormal, in: 0...0.28),
        Claim(
          "walk.memory", "Correlation of where the walk ends with where it began",
          correlation(forward[0], forward[times.count - 1]), in: -0.2...0.2),
        Claim(
          "walk.between", "Greatest distance between the two clouds at the same time", between.max() ?? .nan,
          in: 0...0.32),
        Claim("walk.backward", "Distance of the way back's end to the data", ends, in: 0...0.22),
        Claim(
          "walk.floor", "For comparison: mean distance of independent draws from the data to the data", floor,
          in: 0.02...0.16),
      ],
      figure: drawing.svg)
    return [section, try collapse(beside: backward[0])]
  }

  /// The clouds at these times, and three points' paths.
  private func forwards(_ times: [Int]) throws -> ([[Vector]], [[Vector]]) {
    let alphas = try scheduler.noise.alphasCumprod()
    let start = (0..<samples).map { spiral.points[$0 % points] }
    var x = try Tensor(start.flatMap { [Float($0.x), Float($0.y)] }, shape, on: device)
    var fresh = noise(2)
    var clouds = [start]
    var paths = marked(start).map { [$0] }
    for t in 1...1000 {
      let kept = t > 1 ? Double(alphas[t - 1]) / Double(alphas[t - 2]) : Double(alphas[0])
      let step = try fresh.normal(shape, for: .step(t))
      x = try Tensor.combination([(Float(kept.squareRoot()), x), (Float((1 - kept).squareRoot()), step)])
      if times.contains(t) { clouds.append(try vectors(x)) }
      if t % 4 == 0 {
        for (index, point) in marked(try vectors(x)).enumerated() { paths[index].append(point) }
      }
    }
    return (clouds, paths)
  }

  private func backwards(_ times: [Int]) throws -> ([[Vector]], [[Vector]]) {
    let first = try vectors(normal())
    var clouds = [1000: first]
    var paths = marked(first).map { [$0] }
    _ = try sample(.ddpm, steps: chainSteps, denoiser) { state in
      let time = 1000 * (state.count - state.step) / state.count
      let x = state.latent
      if times.contains(time) { clouds[time] = try self.vectors(x) }
      if time % 4 == 0 {
        for (index, point) in self.marked(try self.vectors(x)).enumerated() { paths[index].append(point) }
      }
    }
    return (times.map { clouds[$0] ?? [] }, paths)
  }

  /// Three of the samples, spread over all.
  private func marked(_ cloud: [Vector]) -> [Vector] { (0..<3).map { cloud[$0 * points / 3 + points / 9] } }

  /// Of both coordinates together; the clouds have means near 0.
  private func correlation(_ a: [Vector], _ b: [Vector]) -> Double {
    let product = zip(a, b).reduce(0) { $0 + $1.0.dot($1.1) } / Double(a.count)
    return product / (Distances.spread(a) * Distances.spread(b))
  }

  /// DDPM without its noise term, beside its samples with it.
  private func collapse(beside full: [Vector]) throws -> ExperimentSection {
    var silent = try SamplerChoice.ddpm.make(scheduler).schedule(scheduler.noise, steps: chainSteps)
    silent.steps = silent.steps.map { step in
      // DDPM's step is DDIM's to as much less noise as it then adds: arXiv:2010.02502, eq. 12. Arriving there and
      // adding none is DDPM's update without its last term; the next step is still told the full level.
      var mean = step
      let ratio = step.from.alpha * step.to.sigma / (step.to.alpha * step.from.sigma)
      mean.to.sigma = step.to.sigma * ratio
      return mean
    }
    var noise = noise()
    let start = try silent.initial(noise: noise.normal(shape, for: .initial))
    let mean = try vectors(DDIMSampler().sample(denoiser, from: start, along: silent, noise: &noise))

    let data = spiral.points
    let (center, spread) = (Distances.mean(data), Distances.spread(data))
    var drawing = Drawing(width: 960, height: 352)
    let clouds: [(String, [Vector], Color)] = [
      ("data", data, .grey), ("DDPM", full, .blue), ("DDPM without its noise", mean, .vermilion),
    ]
    for (column, (title, cloud, color)) in clouds.enumerated() {
      var panel = Panel(
        title, x: 44 + 308 * Double(column), y: 30, width: 288, height: 288, labelsY: column == 0)
      if column > 0 { panel.dots(data, .faint, radius: 1, opacity: 1) }
      panel.dots(cloud, color, radius: 1.8)
      panel.dots([center], .ink, radius: 5, opacity: 1)
      drawing.add(panel)
    }
    func relative(_ cloud: [Vector]) -> Double { Distances.spread(cloud, around: center) / spread }
    func visited(_ cloud: [Vector]) -> Double {
      Double(Set(cloud.map { spiral.nearest(to: $0).index }).count) / Double(points)
    }
    return ExperimentSection(
      title: "Without the noise term, samples collapse to the mean",
      text: """
        Each of DDPM's steps goes to a mean and adds noise. With the noise left out, the same update draws every sample \
        toward the mean of the data (the black dot), until so little noise is left that the nearest data points decide: \
        it ends with these few.
        """,
      claims: [
        Claim(
          "collapse.ddpm", "DDPM: root mean square distance to the data's mean, in units of the data's own",
          relative(full), in: 0.88...1.12),
        Claim(
          "collapse.silent", "Without the noise term: the same root mean square distance", relative(mean),
          in: 0.2...0.3),
        Claim(
          "collapse.ddpm_visited", "DDPM: share of the data points that samples reach", visited(full),
          in: 0.7...1),
        Claim(
          "collapse.silent_visited", "Without the noise term: share of the data points that samples reach",
          visited(mean), in: 0...0.06),
        Claim(
          "collapse.silent_distance", "Without the noise term: sliced Wasserstein distance to the data",
          Distances.slicedWasserstein(mean, data), in: 0.9...1.15),
        Claim(
          "collapse.ddpm_distance", "DDPM: sliced Wasserstein distance to the data",
          Distances.slicedWasserstein(full, data), in: 0...0.22),
      ],
      figure: drawing.svg)
  }
}
