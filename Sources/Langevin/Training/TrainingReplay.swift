import Foundation
import LangevinCPU
import LangevinTensor

/// What a run takes of a file instead of drawing it by lot, so that any reference can be given the same.
///
/// Row K of each tensor belongs to the run's sample K, and what the file lacks is drawn as ever. A task refuses tensors
/// that it does not take; an autoencoder's takes none.
/// - `picture` int32 [samples]: the picture's place in the data.
/// - `caption` int32 [samples]: the caption's place among the picture's; -1 is the empty caption.
/// - `timestep` float32 [samples]: the schedule's.
/// - `noise` float32 [samples, C, h, w]: what is added to pictures or latents.
public struct TrainingReplay: Sendable {
  private let file: SafetensorsFile
  private let picture: [Int32]?
  private let caption: [Int32]?
  private let timestep: [Float]?

  /// Throws `CheckpointError`, also for a tensor that has another name, dtype or shape.
  init(_ url: URL) throws {
    let file = try SafetensorsFile(url: url)
    func fail(_ reason: String) -> CheckpointError { .malformed(path: url.path, reason: reason) }
    let known = ["picture", "caption", "timestep", "noise"]
    if let stranger = file.names.first(where: { !known.contains($0) }) {
      throw fail("it has a tensor '\(stranger)'; known are \(known.joined(separator: ", "))")
    }
    for name in file.names {
      let spec = file.spec(of: name)
      let isInteger = ["picture", "caption"].contains(name)
      guard spec?.dtype == (isInteger ? .int32 : .float32), spec?.shape.rank == (name == "noise" ? 4 : 1)
      else {
        throw fail("'\(name)' must be \(isInteger ? "int32" : "float32") with a row for each sample")
      }
    }
    let host = Device(CPUBackend())
    func read<Value>(_ name: String, _ body: (Tensor) throws -> [Value]) throws -> [Value]? {
      file.names.contains(name) ? try body(file.load(name, on: host)) : nil
    }
    picture = try read("picture") { try $0.int32s() }
    caption = try read("caption") { try $0.int32s() }
    timestep = try read("timestep") { try $0.floats() }
    self.file = file
  }

  /// Throws `CheckpointError.malformed` where the file has what a task draws by lot all the same.
  func check(only taken: [String], for task: String) throws {
    guard let stranger = file.names.first(where: { !taken.contains($0) }) else { return }
    throw CheckpointError.malformed(
      path: file.url.path,
      reason:
        "it has '\(stranger)', and train \(task) takes only \(taken.joined(separator: ", ")) from a file")
  }

  private func row<Value>(_ sample: UInt64, of values: [Value]?, _ name: String) throws -> Value? {
    guard let values else { return nil }
    guard sample < UInt64(values.count) else { throw tooShort(name) }
    return values[Int(sample)]
  }

  private func tooShort(_ name: String) -> CheckpointError {
    .malformed(path: file.url.path, reason: "'\(name)' has fewer rows than the run has samples")
  }

  /// A sample's choice with what the file says in its place. Throws `CheckpointError.malformed`.
  func choice(_ sample: UInt64, _ drawn: SampleChoice, of data: any TrainingData) throws -> SampleChoice {
    var choice = drawn
    if let index = try row(sample, of: picture, "picture") {
      guard data.pictures.indices.contains(Int(index)) else {
        throw CheckpointError.malformed(
          path: file.url.path, reason: "the data have no picture \(index) of sample \(sample)")
      }
      choice.index = Int(index)
    }
    if let place = try row(sample, of: caption, "caption") {
      let captions = data.pictures[choice.index].captions
      guard place == -1 || captions.indices.contains(Int(place)) else {
        throw CheckpointError.malformed(
          path: file.url.path, reason: "picture \(choice.index) has no caption \(place) of sample \(sample)")
      }
      choice.caption = place == -1 ? nil : Int(place)
    }
    return choice
  }

  /// A sample's timestep; nil where the file has none.
  func timestep(_ sample: UInt64) throws -> Float? { try row(sample, of: timestep, "timestep") }

  /// The noise of samples, [N, h, w, C]; nil where the file has none. Throws `CheckpointError.malformed` where its rows are
  /// of another shape than [h, w, C].
  func noise(_ samples: Range<UInt64>, _ shape: Shape, on device: Device) throws -> Tensor? {
    guard let all = file.spec(of: "noise")?.shape else { return nil }
    guard samples.upperBound <= UInt64(all[0]) else { throw tooShort("noise") }
    guard shape.rank == 3, [all[2], all[3], all[1]] == shape.dimensions else {
      throw CheckpointError.malformed(
        path: file.url.path, reason: "'noise' is \(all), a sample is [C, h, w] of \(shape) [h, w, C]")
    }
    return try file.load("noise", rows: Int(samples.lowerBound)..<Int(samples.upperBound), on: device)
      .transposed([0, 2, 3, 1])
  }
}
