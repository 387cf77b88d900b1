import Foundation
import LangevinDiffusion
import LangevinTensor

extension Experiment {
  /// Distance to the data against the number of steps.
  func fewSteps() throws -> ExperimentSection {
    let counts = [1, 2, 5, 10, 20, 50, 100] + (chainSteps > 250 ? [250] : [])
    var chain = try DDPMSampler(scheduler)
    chain.variance = .large
    let large = chain
    let runs: [(name: String, color: Color, sample: (_ steps: Int, _ run: Int) throws -> Tensor)] = [
      ("DDPM (posterior variance)", .blue, { try sample(.ddpm, steps: $0, denoiser, run: $1) }),
      (
        "DDPM (chain variance)", .purple,
        { try sample(SamplerChoice(large), steps: $0, denoiser, run: $1) }
      ),
      ("DDIM", .vermilion, { try sample(.ddim, steps: $0, denoiser, run: $1) }),
      (
        "flow matching, Euler", .green,
        { try sample(.euler, steps: $0, denoiser, flow: true, run: $1) }
      ),
    ]
    var distances: [Series] = []
    var nearest: [Series] = []
    for run in runs {
      var (far, near) = ([Double](), [Double]())
      for count in counts {
        // Short runs cost little: the mean of several is less a matter of chance.
        let repeats = min(8, max(1, 80 / count))
        let clouds = try (0..<repeats).map { try vectors(run.sample(count, $0)) }
        func mean(_ distance: ([Vector]) -> Double) -> Double {
          clouds.reduce(0) { $0 + distance($1) } / Double(repeats)
        }
        far.append(mean { Distances.slicedWasserstein($0, spiral.points) })
        near.append(mean { Distances.toNearest($0, in: spiral) })
      }
      let x = counts.map { Double($0) }
      distances.append(Series(name: run.name, x: x, y: far))
      nearest.append(Series(name: run.name, x: x, y: near))
    }
    let floor = floor()
    let ends = [Double(counts[0]), Double(counts[counts.count - 1])]
    let floorLine = Series(name: "independent draws from the data", x: ends, y: [floor, floor])

    var drawing = Drawing(width: 960, height: 454)
    let steps = Axis(
      range: 0.8...320, isLogarithmic: true, ticks: counts.map { Double($0) }, title: "steps")
    let charts: [(String, String, [Series], Axis)] = [
      (
        "distance to the data", "sliced Wasserstein distance", distances + [floorLine],
        Axis(range: 0.02...2, isLogarithmic: true, ticks: [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2])
      ),
      (
        "distance to the nearest data point", "mean distance", nearest,
        Axis(range: 0.00001...2, isLogarithmic: true, ticks: [0.0001, 0.001, 0.01, 0.1, 1])
      ),
    ]
    for (column, (title, axis, lines, vertical)) in charts.enumerated() {
      var vertical = vertical
      vertical.title = axis
      var panel = Panel(
        title, x: 80 + 474 * Double(column), y: 30, width: 386, height: 310, horizontal: steps,
        vertical: vertical)
      for (index, line) in lines.enumerated() {
        panel.series(line, index < runs.count ? runs[index].color : .grey, dashes: index == runs.count)
      }
      drawing.add(panel)
    }
    drawing.legend(runs.map { ($0.name, $0.color, false) }, x: 80, y: 414)
    drawing.legend([(floorLine.name, .grey, true)], x: 80, y: 438)

    func at(_ count: Int, _ run: Int, _ lines: [Series]) -> Double {
      // A count that is not there fails its claim.
      zip(lines[run].x, lines[run].y).first { $0.0 == Double(count) }?.1 ?? .infinity
    }
    return ExperimentSection(
      title: "DDIM gets there in few steps",
      text: """
        The same denoiser, from noise to samples in 1 to \(counts[counts.count - 1]) steps. The distance is the sliced 2-Wasserstein distance \
        over 32 fixed directions, along each of which it is exact; independent draws from the data have the distance \
        of the dashed line; up to 40 steps the numbers are means over 2 to 8 runs. The mean distance to the nearest data point says nothing of how the samples are spread. \
        In few steps samples stay too near the mean, DDPM's with the posterior's variance more than DDIM's; with the \
        chain's own variance they spread as they should, but lie off the spiral, because the noise of the last step is \
        removed by none. Flow matching, whose paths are straighter, needs the fewest steps.
        """,
      claims: [
        Claim(
          "steps.ddim_20", "DDIM's distance to the data after 20 steps", at(20, 2, distances), in: 0...0.2),
        Claim(
          "steps.floor", "For comparison: the mean distance of independent draws from the data", floor,
          in: 0.02...0.16),
        Claim(
          "steps.ddpm_over_ddim_10", "DDPM's (posterior variance) distance after 10 steps over DDIM's",
          at(10, 0, distances) / at(10, 2, distances), in: 1.05...2),
        Claim(
          "steps.nearest_ddpm_over_ddim_20",
          "DDPM's (chain variance) distance to the nearest data point after 20 steps over DDIM's",
          at(20, 1, nearest) / at(20, 2, nearest), in: 2...7),
        Claim(
          "steps.flow_over_ddim_5", "Flow matching's distance after 5 steps over DDIM's",
          at(5, 3, distances) / at(5, 2, distances), in: 0.4...0.9),
        Claim(
          "steps.ddpm_100", "DDPM's (posterior variance) distance after 100 steps", at(100, 0, distances),
          in: 0...0.22),
      ],
      series: (distances + [floorLine])
        + nearest.map { Series(name: "\($0.name), to the nearest data point", x: $0.x, y: $0.y) },
      figure: drawing.svg)
  }

  /// The field that samples follow, at several times.
  func field() throws -> ExperimentSection {
    let steps = 100
    let times = [1, 0.5, 0.2, 0.05]
    var states = [try vectors(normal())]
    _ = try sample(.euler, steps: steps, denoiser, flow: true) { state in
      states.append(try vectors(state.latent))
    }

    // An even number: no arrow begins at the mean, from which it could not point there.
    let side = 14
    let grid = (0..<side * side).map { index in
      Vector(x: 0.4 * (Double(index % side) - 6.5), y: 0.4 * (Double(index / side) - 6.5))
    }
    var drawing = Drawing(width: 960, height: 996)
    let center = Distances.mean(spiral.points)
    var agreement: [(mean: Double, nearest: Double)] = []
    for (index, time) in times.enumerated() {
      let velocity = try velocities(at: grid, time: time)
      let step = Int((Double(steps) * (1 - time)).rounded())
      var panel = Panel(
        "noise s = \(Axis.label(time))", x: 44 + 472 * Double(index % 2), y: 30 + 484 * Double(index / 2),
        width: 440,
        height: 440, labelsX: index > 1, labelsY: index % 2 == 0)
      panel.dots(spiral.points, .faint, radius: 1.6, opacity: 1)
      for (point, v) in zip(grid, velocity) {
        panel.arrow(at: point, along: v, length: min(27, 13 * v.length), .grey)
      }
      for number in 0..<40 {
        let path = states[0...step].map { $0[number * samples / 40] }
        panel.line(path, .blue, width: 1.2, opacity: 0.8)
        panel.dots([path[path.count - 1]], .vermilion, radius: 3, opacity: 1)
      }
      drawing.add(panel)
      agreement.append(
        (
          mean: alignment(grid, velocity) { _ in center },
          nearest: alignment(grid, velocity) { spiral.points[spiral.nearest(to: $0).index] }
        ))
    }
    return ExperimentSection(
      title: "The field that samples follow changes with time",
      text: """
        Arrows are the velocity of flow matching, (E[x0 | x] - x) / s, where s is the noise; lines are the paths of 40 \
        samples from s = 1 down to the panel's, dots where they are. In pure noise every arrow points to the \
        mean of the data; the less noise is left, the more the nearest part of the spiral decides.
        """,
      claims: [
        Claim(
          "field.mean_first", "Mean cosine between the arrows and the direction of the data's mean, s = 1",
          agreement[0].mean, in: 0.999...1.001),
        Claim(
          "field.nearest_first",
          "Mean cosine between the arrows and the direction of the nearest data point, s = 1",
          agreement[0].nearest, in: 0.5...0.8),
        Claim(
          "field.mean_last", "Mean cosine between the arrows and the direction of the data's mean, s = 0.05",
          agreement[3].mean, in: 0.5...0.8),
        Claim(
          "field.nearest_last",
          "Mean cosine between the arrows and the direction of the nearest data point, s = 0.05",
          agreement[3].nearest, in: 0.95...1.001),
      ],
      series: [
        Series(name: "cosine to the mean", x: times, y: agreement.map(\.mean)),
        Series(name: "cosine to the nearest data point", x: times, y: agreement.map(\.nearest)),
      ],
      figure: drawing.svg)
  }

  /// How fast and whereto samples at these points move as noise s falls.
  private func velocities(at grid: [Vector], time: Double) throws -> [Vector] {
    let x = try Tensor(grid.flatMap { [Float($0.x), Float($0.y)] }, [1, grid.count, 2], on: device)
    let level = NoiseLevel(timestep: Float(1000 * time), alpha: 1 - time, sigma: time)
    let denoised = try denoiser.denoised(x, at: level)
    return try vectors(Tensor.combination([(Float(1 / time), denoised), (Float(-1 / time), x)]))
  }

  /// The mean cosine between the velocity at each point and the direction to a target.
  private func alignment(_ grid: [Vector], _ velocity: [Vector], _ target: (Vector) -> Vector) -> Double {
    let cosines = zip(grid, velocity).map { point, v in
      let direction = target(point) - point
      return v.dot(direction) / max(v.length * direction.length, 1e-12)
    }
    return cosines.reduce(0, +) / Double(cosines.count)
  }
}
