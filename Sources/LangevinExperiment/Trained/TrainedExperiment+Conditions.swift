import Foundation
import Langevin
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

extension TrainedExperiment {
  /// A CLIP trained on the pictures, and what it makes of every caption, [24, C] of length 1.
  struct TrainedCLIP {
    let model: CLIPModel
    let captions: Tensor

    /// For each picture [N, 16, 16, 3] the caption that is nearest, by its place among all kinds.
    func nearestCaption(_ pictures: Tensor) throws -> [Int] {
      let scores = try CLIPModel.similarity(model.imageEmbeds(pictures), captions).floats()
      let count = captions.shape[0]
      return (0..<pictures.shape[0]).map { row in
        (0..<count).max { scores[row * count + $0] < scores[row * count + $1] } ?? 0
      }
    }
  }

  /// Contrastive training on batches in which each kind comes once.
  func trainCLIP() throws -> TrainedCLIP {
    let kinds = ShapePictures.shown
    let task = SmallTask(
      start: SmallModels.clipStart(seed), build: { _ = try CLIPModel(SmallModels.clip, $0) },
      loss: { numbers, weights in
        let clip = try CLIPModel(SmallModels.clip, weights)
        let batch = zip(kinds, numbers).map { (kind: $0, number: $1) }
        return try contrastiveLoss(
          clip.imageEmbeds(self.pictures.tensor(batch, on: self.device)),
          clip.textEmbeds(kinds.map(\.tokens)), logScale: clip.logScale)
      })
    let weights = try train(task, steps: max(200, steps / 2), batch: kinds.count, rate: 2e-3)
    let model = try CLIPModel(SmallModels.clip, Weights(weights, on: device))
    return TrainedCLIP(
      model: model, captions: try model.textEmbeds(ShapePictures.kinds.map(\.tokens)).copied(to: device))
  }

  // MARK: The hat direction

  /// Whether text(with a hat) - text(without) separates pictures, on hats that no training showed too.
  func hatDirection(_ clip: TrainedCLIP) throws -> ExperimentSection {
    let kinds = ShapePictures.kinds
    let captions = try clip.captions.floats()
    let width = clip.captions.shape[1]
    var direction = [Float](repeating: 0, count: width)
    for (index, kind) in kinds.enumerated() where !ShapePictures.heldOut.contains(kind) {
      // Each hat that is shown has its pair without.
      guard kind.hasHat,
        let pair = kinds.firstIndex(
          of: ShapePictures.Kind(shape: kind.shape, color: kind.color, hasHat: false))
      else { continue }
      for c in 0..<width { direction[c] += captions[index * width + c] - captions[pair * width + c] }
    }
    func scores(_ kinds: [ShapePictures.Kind]) throws -> [Double] {
      let batch = kinds.enumerated().flatMap { index, kind in
        (0..<UInt64(8)).map { (kind: kind, number: UInt64(1 << 44) + UInt64(index) * 8 + $0) }
      }
      let embeds = try clip.model.imageEmbeds(pictures.tensor(batch, on: device)).floats()
      return (0..<batch.count).map { row in
        (0..<width).reduce(0.0) { $0 + Double(direction[$1] * embeds[row * width + $1]) }
      }
    }
    func area(_ positive: [Double], _ negative: [Double]) -> Double {
      let wins = positive.reduce(0.0) { sum, p in
        sum + negative.reduce(0.0) { $0 + (p > $1 ? 1 : p == $1 ? 0.5 : 0) }
      }
      return wins / Double(positive.count * negative.count)
    }
    let without = kinds.filter { !$0.hasHat }
    let (bare, shown, held) = (
      try scores(without), try scores(ShapePictures.shown.filter(\.hasHat)),
      try scores(Array(kinds.filter(ShapePictures.heldOut.contains)))
    )
    let batch = ShapePictures.shown.map { (kind: $0, number: UInt64(1 << 45)) }
    let found = try clip.nearestCaption(pictures.tensor(batch, on: device))
    let right = zip(found, batch).filter { ShapePictures.kinds[$0] == $1.kind }.count
    let all = bare + shown + held
    let (low, high) = ((all.min() ?? 0) - 0.1, (all.max() ?? 1) + 0.1)
    var panel = Panel(
      "along text(with a hat) - text(without)", x: 90, y: 40, width: 780, height: 180,
      horizontal: Axis(range: low...high, ticks: [], title: "projection of a picture's embedding"),
      vertical: Axis(range: 0...4, ticks: []), labelsY: false)
    for (row, (values, color)) in [(bare, Color.blue), (shown, .vermilion), (held, .green)].enumerated() {
      panel.dots(values.map { Vector(x: $0, y: Double(row + 1)) }, color, radius: 3, opacity: 0.5)
    }
    var drawing = Drawing(width: 960, height: 310)
    drawing.add(panel)
    drawing.legend(
      [
        ("without a hat", .blue, false), ("with", .vermilion, false),
        ("with, on shapes never shown so", .green, false),
      ],
      x: 220, y: 295)
    return ExperimentSection(
      title: "A direction in a trained CLIP means 'with a hat'",
      text: """
        A CLIP of two small transformers learns pictures and captions by its contrastive loss. The mean difference of \
        captions with and without a hat is then a direction along which pictures with hats lie further than those \
        without: also hats on green circles and blue triangles, which no training showed.
        """,
      claims: [
        Claim(
          "clip.captions", "Share of new pictures whose own caption is the nearest of 24",
          Double(right) / Double(batch.count), in: 0.8...1),
        Claim("clip.hat", "Area under the curve of the hat direction", area(shown, bare), in: 0.9...1),
        Claim(
          "clip.hat_held_out", "The same for hats that no training showed", area(held, bare), in: 0.8...1),
      ], figure: drawing.svg)
  }

  // MARK: Conditions

  private func conditional(
    tokenChannels: Int, seedOffset: UInt64,
    context: @escaping @Sendable (Range<UInt64>, Tensor) throws -> Tensor
  ) throws -> UNet2DConditionModel {
    let config = try SmallModels.conditionalUNet(tokenChannels: tokenChannels)
    let task = SmallTask(
      start: SmallModels.unetStart(seed &+ seedOffset), build: { _ = try UNet2DConditionModel(config, $0) },
      loss: { numbers, weights in
        let own = self
        let clean = try own.pictures.tensor(numbers.map(own.pictures.sample), on: own.device)
        let noise = try TrainingNoise.noise(numbers, Self.shape, seed: own.seed, on: own.device)
        let noisiness = own.noisiness(numbers)
        let output = try UNet2DConditionModel(config, weights)(
          noisiness.noisy(clean, noise), timesteps: noisiness.timesteps, context: context(numbers, clean))
        return try noisiness.loss(output, noise, .none, .epsilon)
      })
    return try UNet2DConditionModel(config, Weights(train(task, steps: 2 * steps), on: device))
  }

  /// A lot between 0 and 1 for each purpose of a sample.
  private func lot(_ number: UInt64, _ lane: Int) -> Double {
    Double(TrainingNoise.words(seed: seed &+ 1, sample: number, TrainingNoise.choiceStream)[lane]) * 0x1p-32
  }

  private func sampleGuided(
    _ model: UNet2DConditionModel, _ context: Tensor, scale: Double, run: UInt64
  ) throws -> Tensor {
    let empty = try Tensor.fill(0, context.shape, on: device)
    let both = try Tensor.concatenated([empty, context], axis: 0)
    let guidance = ClassifierFreeGuidance(scale: scale) { x, timestep in
      let isDouble = x.shape[0] == both.shape[0]
      return try model(
        x, timesteps: [Float](repeating: timestep, count: x.shape[0]), context: isDouble ? both : context)
    }
    return try sample(.ddim, steps: 20, count: context.shape[0], run: run) { try guidance($0, $1) }
  }

  /// A UNet that is trained with captions, some of them wrong and some left out.
  func guidance(_ clip: TrainedCLIP) throws -> ExperimentSection {
    let own = self
    let table = try words()
    @Sendable func tokens(_ kinds: [ShapePictures.Kind]) throws -> Tensor {
      let rows = kinds.flatMap(\.rows)
      return try table.embedding(Tensor(rows, [kinds.count, 3], on: own.device))
    }
    let (wrong, dropped) = (0.25, 0.15)
    let model = try conditional(tokenChannels: 16, seedOffset: 1) { numbers, _ in
      let kinds = numbers.map { number in
        own.lot(number, 1) < wrong
          ? ShapePictures.shown[Int(own.lot(number, 2) * Double(ShapePictures.shown.count))]
          : own.pictures.sample(number).kind
      }
      let kept = numbers.map { Float(own.lot($0, 0) < dropped ? 0 : 1) }
      return try tokens(kinds) * Tensor(kept, [kept.count, 1, 1], on: own.device)
    }
    let asked = (0..<2 * samples).map { ShapePictures.shown[$0 % ShapePictures.shown.count] }
    let scales = [1.0, 2, 4, 8]
    var series = Series(name: "share that shows the caption", x: scales, y: [])
    var shown: [Tensor] = []
    for scale in scales {
      let result = try sampleGuided(model, tokens(asked), scale: scale, run: 5)
      let found = try clip.nearestCaption(result)
      let right = zip(found, asked).filter { ShapePictures.kinds[$0] == $1 }.count
      series.y.append(Double(right) / Double(asked.count))
      if [1, 4].contains(scale) { shown.append(try result.rows(0..<32)) }
    }
    var drawing = Drawing(width: 960, height: 340)
    var chart = Panel(
      series.name, x: 90, y: 40, width: 300, height: 220,
      horizontal: Axis(range: 0.9...9, isLogarithmic: true, ticks: scales, title: "guidance scale"),
      vertical: Axis(range: 0...1.02, ticks: [0, 0.25, 0.5, 0.75, 1]))
    chart.series(series, .blue)
    drawing.add(chart)
    try drawing.pictures(shown[0], title: "guidance 1", x: 400, y: 40)
    try drawing.pictures(shown[1], title: "guidance 4", x: 682, y: 40)
    return ExperimentSection(
      title: "Dropped captions teach guidance",
      text: """
        A UNet learns with captions, a quarter of which are wrong; in 15 of 100 samples the caption is left out. The one \
        network then knows pictures with and without a caption, and guidance goes from the one towards the other. \
        The CLIP says which caption a picture shows.
        """,
      claims: [
        // By lot it would be 1 of 24. Seeds 0 to 4 give 0.25 to 0.3, and 0.6 to 0.7 with guidance.
        Claim("dropping.1", "Share that shows the caption without guidance", series.y[0], in: 0.1...0.9),
        Claim("dropping.4", "The same at guidance 4", series.y[2], in: 0.4...1),
        Claim("dropping.gain", "What guidance 4 adds", series.y[2] - series.y[0], in: 0.15...1),
      ], series: [series], figure: drawing.svg)
  }

  /// unCLIP's decoder: a UNet that sees a picture's embedding and draws a picture with that embedding. arXiv:2204.06125.
  func decoder(_ clip: TrainedCLIP) throws -> ExperimentSection {
    let own = self
    let width = SmallModels.clip.projectionSize
    // Of length 1 an embedding is a faint token.
    let loudness = Float(width).squareRoot()
    let model = try conditional(tokenChannels: width, seedOffset: 2) { numbers, clean in
      let embeds = try clip.model.imageEmbeds(clean) * loudness
      let kept = numbers.map { Float(own.lot($0, 0) < 0.1 ? 0 : 1) }
      return try embeds.reshaped([numbers.count, 1, width])
        * Tensor(kept, [kept.count, 1, 1], on: own.device)
    }
    // One picture of each kind at a time: a drawn picture's source is sought among pictures of other kinds.
    let count = ShapePictures.shown.count
    var shown: (sources: Tensor, drawn: Tensor)?
    var (cosines, ownNearest): ([Double], Int) = ([], 0)
    for draw in 0..<UInt64(samples / 4) {
      let sources = try pictures.tensor(
        ShapePictures.shown.map { (kind: $0, number: UInt64(1 << 46) + draw) }, on: device)
      let wanted = try clip.model.imageEmbeds(sources)
      let context = try (wanted * loudness).reshaped([count, 1, width])
      let drawn = try sampleGuided(model, context, scale: 2, run: 6 + draw)
      let scores = try CLIPModel.similarity(clip.model.imageEmbeds(drawn), wanted).floats()
      for row in 0..<count {
        let own = scores[row * count + row]
        cosines.append(Double(own))
        if scores[row * count..<(row + 1) * count].allSatisfy({ own >= $0 }) { ownNearest += 1 }
      }
      shown = shown ?? (sources, drawn)
    }
    cosines.sort()
    var drawing = Drawing(width: 960, height: 160)
    if let shown {
      try drawing.pictures(shown.sources, title: "sources", x: 180, y: 40, columns: 8)
      try drawing.pictures(shown.drawn, title: "drawn from their embeddings", x: 520, y: 40, columns: 8)
    }
    return ExperimentSection(
      title: "A decoder returns what an embedding was of",
      text: """
        A UNet learns to denoise pictures while it sees their CLIP embedding, which is left out of 10 in 100 samples. Given \
        the embedding of a new picture it draws one with nearly the same embedding: kind and colour come back, the \
        exact place need not.
        """,
      claims: [
        Claim(
          "decoder.cosine", "Median cosine of a drawn picture's embedding and its source's",
          cosines[cosines.count / 2], in: 0.8...1),
        // By lot it would be 1 of 22. Seeds 0 to 4 give 0.67 to 0.77.
        Claim(
          "decoder.nearest", "Share of drawn pictures whose own source is the nearest of \(count)",
          Double(ownNearest) / Double(cosines.count), in: 0.5...1),
      ], figure: drawing.svg)
  }
}
