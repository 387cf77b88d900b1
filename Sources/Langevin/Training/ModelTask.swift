import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor
import LangevinTraining

/// A task of the command: what it trains becomes a model's folder, which every pipeline opens.
public protocol ModelTask: TrainingTask {
  /// What only this task can be told.
  associatedtype Settings: Codable & Sendable
  /// By which the command knows it.
  static var name: String { get }
  /// Whether every picture must have a caption.
  static var needsCaptions: Bool { get }
  /// The same for a model's folder, where the model decides it. Throws what opening the model throws.
  static func needsCaptions(for model: URL) throws -> Bool
  /// The settings that a user need not make.
  static var defaults: Settings { get }
  /// Reads configurations and what is not trained. Throws for a model, data or settings that it cannot train with.
  init(_ context: TaskContext, _ settings: Settings) throws
  /// The model with these weights of the trained networks.
  func model(_ weights: NetworkWeights) throws -> ModelFolderWriter
  /// Pictures of what the model can do; nil where there is nothing to see. Throws what `check` throws, which is called
  /// now and then where drawing takes long.
  func samples(_ weights: NetworkWeights, _ check: () throws -> Void) throws -> Picture?
  /// What can be measured of the model now and then.
  func figures(_ weights: NetworkWeights) throws -> [(name: String, value: Double)]
}

extension ModelTask {
  /// As most tasks do.
  public static var needsCaptions: Bool { true }
  /// Whatever the model.
  public static func needsCaptions(for model: URL) throws -> Bool { needsCaptions }
  /// Nothing to see.
  public func samples(_ weights: NetworkWeights, _ check: () throws -> Void) throws -> Picture? { nil }
  /// Nothing to measure.
  public func figures(_ weights: NetworkWeights) throws -> [(name: String, value: Double)] { [] }
}

/// The weights of a trained network, by its name.
public typealias NetworkWeights = (_ network: String) throws -> any WeightSource

/// What a task is made from.
public struct TaskContext: Sendable {
  /// What all tasks can be told.
  public var settings: TrainingSettings
  /// The folder of the model to start from.
  public var model: URL
  /// The pictures to learn from.
  public var data: any TrainingData
  /// Where everything is computed.
  public var device: Device
  /// What takes the place of what is drawn by lot.
  public var replay: TrainingReplay?
  /// Shows a line to the user.
  public var notice: @Sendable (String) -> Void

  /// What a task is made from.
  public init(
    settings: TrainingSettings, model: URL, data: any TrainingData, device: Device,
    replay: TrainingReplay? = nil, notice: @escaping @Sendable (String) -> Void
  ) {
    (self.settings, self.model, self.data) = (settings, model, data)
    (self.device, self.replay, self.notice) = (device, replay, notice)
  }

  /// Whether the model is one file instead of a folder.
  private var isFile: Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: model.path, isDirectory: &isFolder) && !isFolder.boolValue
  }

  /// A network of the model's folder or file: what it is, and where it starts. A folder's network without a file of
  /// weights starts from nothing, by the rule. Throws `CheckpointError`.
  func component(_ name: String, _ rule: @escaping InitializationRule = InitialWeights.pytorch) throws
    -> Checkpoint.Component
  {
    if isFile { return try Checkpoint.open(model).component(name) }
    return try ModelFolder.component(name.isEmpty ? model : model.appendingPathComponent(name)) {
      InitialWeights(seed: FNV.hash(name.utf8, seed: settings.seed), rule: rule)
    }
  }

  /// The samples' pictures, in the settings' size or in that of the model. Throws `DataError`.
  func batches(dropping: Double = 0, width: Int, height: Int) throws -> PictureBatches {
    var framing = Framing(width: settings.width ?? width, height: settings.height ?? height)
    (framing.padding, framing.places) = (settings.padding, settings.places)
    let order = try SampleOrder(
      data, seed: settings.seed, dropping: dropping, isMirroring: settings.mirror)
    return try PictureBatches(data, order, framing)
  }
}
