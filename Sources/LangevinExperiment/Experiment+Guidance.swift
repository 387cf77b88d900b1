import Foundation
import LangevinDiffusion
import LangevinTensor

/// Two spirals with captions, of which one in four is wrong.
struct CaptionedSpirals {
  static let wrong = 0.25
  let data: PointSet
  /// Given the caption of the first spiral, of the second, and none.
  let captions: [PosteriorMean]
  let any: PosteriorMean

  init(points: Int, on device: Device) throws {
    let data = PointSet.spirals(2, count: points)
    captions = try (0..<2).map { caption in
      let weights = data.labels.map { $0 == caption ? 1 - Self.wrong : Self.wrong }
      return try PosteriorMean(data.points, weights: weights, on: device)
    }
    any = try PosteriorMean(data.points, on: device)
    self.data = data
  }

  /// What the samples are of: the share nearest to each spiral, and how evenly those of the first lie along it.
  func judge(_ samples: [Vector]) -> (shares: [Double], evenness: Double, labels: [Int]) {
    let nearest = samples.map { data.nearest(to: $0).index }
    let labels = nearest.map { data.labels[$0] }
    let shares = (0..<2).map { label in
      Double(labels.filter { $0 == label }.count) / Double(samples.count)
    }
    let places = nearest.filter { data.labels[$0] == 0 }.map { data.places[$0] }
    return (shares, Distances.evenness(places), labels)
  }
}

extension Experiment {
  /// Adherence and diversity against the guidance scale.
  func guidance() throws -> ExperimentSection {
    let spirals = try CaptionedSpirals(points: points, on: device)
    let scales = [1, 1.5, 2, 3, 5, 7.5, 10]
    let shown = [1, 2, 7.5]
    var adherence = Series(name: "share on the wanted spiral", x: scales, y: [])
    var evenness = Series(name: "how evenly it is covered", x: scales, y: [])
    var distance = Series(name: "distance to the wanted spiral", x: scales, y: [])
    let wanted = spirals.data.labelled(0)

    var drawing = Drawing(width: 960, height: 770)
    for scale in scales {
      let cloud = try guided(toward: spirals.captions[0], from: spirals.any, scale: scale)
      let judged = spirals.judge(cloud)
      adherence.y.append(judged.shares[0])
      evenness.y.append(judged.evenness)
      distance.y.append(Distances.slicedWasserstein(cloud, wanted))
      guard let column = shown.firstIndex(of: scale) else { continue }
      drawing.add(
        panel("guidance \(Axis.label(scale))", column, cloud, judged.labels, spirals.data.points))
    }
    drawing.legend(
      [("on the wanted spiral", .blue, false), ("on the other", .vermilion, false)], x: 300, y: 368)
    var chart = Panel(
      "", x: 200, y: 400, width: 560, height: 290,
      horizontal: Axis(
        range: 0.9...11, isLogarithmic: true, ticks: scales, title: "guidance scale"),
      vertical: Axis(range: 0...1.05, ticks: [0, 0.25, 0.5, 0.75, 1], title: "share"))
    chart.series(adherence, .blue)
    chart.series(evenness, .green)
    drawing.add(chart)
    drawing.legend([(adherence.name, .blue, false), (evenness.name, .green, false)], x: 230, y: 756)

    return ExperimentSection(
      title: "Guidance trades diversity for adherence",
      text: """
        Two spirals with captions, one in four of which is wrong, as in data from the web: without guidance one sample \
        in four is not what was asked for. Classifier-free guidance, DDIM in \(guidedSteps) steps, brings nearly all samples to the \
        wanted spiral, and to ever fewer places on it. Evenness is the exponential of the entropy over 24 equal \
        pieces of the spiral, divided by 24.
        """,
      claims: [
        Claim(
          "guidance.adherence_1", "Share on the wanted spiral without guidance", adherence.y[0],
          in: 0.58...0.88),
        Claim(
          "guidance.adherence_3", "Share on the wanted spiral at guidance 3", adherence.y[3], in: 0.85...1),
        Claim("guidance.evenness_1", "Evenness without guidance", evenness.y[0], in: 0.8...1),
        Claim("guidance.evenness_10", "Evenness at guidance 10", evenness.y[6], in: 0.35...0.75),
      ],
      series: [adherence, evenness, distance], figure: drawing.svg)
  }

  /// A negative caption with an empty prompt.
  func negative() throws -> ExperimentSection {
    let spirals = try CaptionedSpirals(points: points, on: device)
    let scales = [1.0, 2, 5]
    var share = Series(name: "share on the unwanted spiral", x: scales, y: [])
    var drawing = Drawing(width: 960, height: 384)
    for (column, scale) in scales.enumerated() {
      let cloud = try guided(toward: spirals.any, from: spirals.captions[1], scale: scale)
      let judged = spirals.judge(cloud)
      share.y.append(judged.shares[1])
      let title = scale == 1 ? "no negative caption" : "negative caption, guidance \(Axis.label(scale))"
      drawing.add(panel(title, column, cloud, judged.labels, spirals.data.points))
    }
    drawing.legend(
      [("on the other spiral", .blue, false), ("on the unwanted", .vermilion, false)], x: 300, y: 372)
    return ExperimentSection(
      title: "A negative condition pushes away",
      text: """
        The same two spirals and no wish but one: not the second. Guidance goes from what the second caption \
        predicts to what no caption predicts, and beyond.
        """,
      claims: [
        Claim(
          "negative.share_1", "Share on the unwanted spiral without guidance", share.y[0], in: 0.35...0.65),
        Claim(
          "negative.share_2", "Share on the unwanted spiral as the negative, guidance 2", share.y[1],
          in: 0.15...0.47),
        Claim(
          "negative.share_5", "Share on the unwanted spiral as the negative, guidance 5", share.y[2],
          in: 0...0.2),
      ],
      series: [share], figure: drawing.svg)
  }

  /// DDIM, with classifier-free guidance.
  private func guided(toward prompt: PosteriorMean, from negative: PosteriorMean, scale: Double) throws
    -> [Vector]
  {
    let conditions = ClassifierFreeGuidance.isUsed(scale: scale) ? [negative, prompt] : [prompt]
    let network = CaptionedNetwork(conditions: conditions, alphasCumprod: try scheduler.noise.alphasCumprod())
    let guidance = ClassifierFreeGuidance(scale: scale, network.callAsFunction)
    return try vectors(sample(.ddim, steps: guidedSteps, NetworkDenoiser(.sample, guidance.callAsFunction)))
  }

  private func panel(_ title: String, _ column: Int, _ cloud: [Vector], _ labels: [Int], _ data: [Vector])
    -> Panel
  {
    var panel = Panel(
      title, x: 44 + 308 * Double(column), y: 30, width: 288, height: 288, labelsY: column == 0)
    panel.dots(data, .faint, radius: 0.9, opacity: 1)
    for (label, color) in [Color.blue, .vermilion].enumerated() {
      panel.dots(zip(cloud, labels).filter { $1 == label }.map(\.0), color, radius: 1.8)
    }
    return panel
  }
}
