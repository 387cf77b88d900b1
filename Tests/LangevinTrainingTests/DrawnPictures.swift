import Foundation
import LangevinTensor
import LangevinTraining

@testable import Langevin

/// Data in memory that a small network can learn: discs and squares of a colour on white, and what they are called.
struct DrawnPictures: TrainingData {
  static let colours: [(name: String, value: [UInt8])] = [
    ("red", [220, 30, 30]), ("green", [30, 170, 60]), ("blue", [40, 60, 220]), ("yellow", [240, 210, 30]),
  ]

  let pictures: [CaptionedPicture]
  let size: Int

  init(size: Int, count: Int = 16) {
    self.size = size
    pictures = (0..<count).map { index in
      CaptionedPicture(
        name: String(format: "%03d.png", index), byteCount: 100 + index,
        captions: [
          Caption("\(Self.colours[index % 4].name) \(index / 4 % 2 == 0 ? "circle" : "square")")
        ])
    }
  }

  func picture(_ index: Int) throws -> Picture {
    // Every eighth is the same but for its place.
    let (colour, shift) = (Self.colours[index % 4].value, index / 8 % 3 - 1)
    let (middle, radius) = (Double(size) / 2 + Double(shift), Double(size) * 0.3)
    var pixels: [UInt8] = []
    for y in 0..<size {
      for x in 0..<size {
        let (dx, dy) = (Double(x) + 0.5 - middle, Double(y) + 0.5 - middle)
        let isInside =
          index / 4 % 2 == 0 ? dx * dx + dy * dy < radius * radius : max(abs(dx), abs(dy)) < radius * 0.8
        pixels += isInside ? colour : [255, 255, 255]
      }
    }
    return try Picture(width: size, height: size, pixels: pixels)
  }
}

extension RunScratch {
  /// A copy of files of a fixture under names of their own.
  func copy(_ fixture: String, to folder: String, _ files: [String: String]) throws -> URL {
    let target = url(folder)
    try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
    for (source, name) in files {
      try FileManager.default.copyItem(
        at: Self.fixtures.appending(path: "\(fixture)/\(source)"), to: target.appending(path: name))
    }
    return target
  }

  func context(_ model: URL, _ data: any TrainingData, _ settings: TrainingSettings, on device: Device)
    -> TaskContext
  {
    TaskContext(settings: settings, model: model, data: data, device: device) { _ in }
  }

  /// What a run's folder holds of a task that was trained for so many steps.
  func trained<Task: ModelTask>(_ task: Task, _ settings: TrainingSettings, on device: Device) throws -> (
    trainer: Trainer<Task>, losses: [Float]
  ) {
    var trainer = try Trainer(task, settings.trainer(), on: device)
    let losses = try (0..<settings.steps).map { _ in try trainer.step().loss }
    return (trainer, losses)
  }
}

extension Trainer {
  /// The averaged weights, as a run hands them to its task.
  var averages: NetworkWeights {
    let parameters = parameters
    return { try parameters.source(of: $0, averaged: true) }
  }
}

/// The mean over the first or the last numbers.
func mean(_ values: some Collection<Float>) -> Float { values.reduce(0, +) / Float(values.count) }
