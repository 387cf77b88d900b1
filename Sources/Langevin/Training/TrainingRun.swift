import Foundation
import LangevinJSON
import LangevinTensor
import LangevinTraining
import Synchronization

/// What happens in a run, for whoever shows it.
public enum TrainingEvent: Sendable {
  /// A line to be shown.
  case notice(String)
  /// A step is done; `flops` are its floating-point operations.
  case step(LogEntry, seconds: Double, flops: Double)
  /// Pictures of what the model can do were written.
  case samples(URL)
  /// The task measured its model.
  case figures([(name: String, value: Double)], step: Int)
  /// A state was written, from which the run can go on.
  case saved(step: Int)
  /// The model was written.
  case model(URL)
}

/// The settings of a run, read and checked, and the data that it learns from.
public struct TrainingSetup<Task: ModelTask>: Sendable {
  /// What all tasks can be told.
  public let settings: TrainingSettings
  /// As train.json has them.
  public let document: SettingsDocument
  let trainer: TrainerSettings
  let data: any TrainingData
  private let own: Task.Settings
  private let model: URL
  private let replay: TrainingReplay?

  /// Throws `SettingsError`, `DataError`.
  public init(_ document: SettingsDocument, notice: @escaping @Sendable (String) -> Void) throws {
    self.document = document
    settings = try document.decoded(as: TrainingSettings.self)
    own = try document.decoded(as: Task.Settings.self)
    guard let model = settings.model else { throw SettingsError.missing(key: "model") }
    guard !settings.data.isEmpty else { throw SettingsError.missing(key: "data") }
    self.model = URL(fileURLWithPath: model)
    trainer = try settings.trainer()
    var options = CaptionOptions()
    options.column = settings.captionColumn
    options.areNeeded = try Task.needsCaptions(for: URL(fileURLWithPath: model))
    let paths = settings.data.map { URL(fileURLWithPath: $0) }
    let (data, broken) = try TrainingFiles.open(paths, options).checked(
      skippingBroken: settings.skipBroken)
    if let first = broken.first {
      notice("\(broken.count) broken pictures are left out, as \(first.reason)")
    }
    self.data = data
    replay = try settings.replay.map { URL(fileURLWithPath: $0) }.map(TrainingReplay.init)
  }

  /// The task on a device. Throws what the task throws.
  func task(on device: Device, notice: @escaping @Sendable (String) -> Void) throws -> Task {
    try Task(
      TaskContext(
        settings: settings, model: model, data: data, device: device, replay: replay, notice: notice), own)
  }

  /// The run's steps from its beginning on, without a folder. Throws what the task and the trainer throw.
  public func steps(on device: Device, notice: @escaping @Sendable (String) -> Void) throws -> Trainer<Task> {
    try Trainer(task(on: device, notice: notice), trainer, on: device)
  }

  /// What the run will need of the device of each of so many ranks. Throws what the task throws, and
  /// `TrainingError.batch`.
  public func plan(on device: Device, ranks: Int = 1) throws -> TrainingPlan {
    guard trainer.batch % (ranks * trainer.accumulation) == 0 else {
      throw TrainingError.batch(size: trainer.batch, accumulation: trainer.accumulation, ranks: ranks)
    }
    var trainer = trainer
    trainer.batch /= ranks
    return try TrainingPlan(trainer, on: device) { try task(on: $0) { _ in } }
  }
}

/// One task, trained in its folder.
public struct TrainingRun<Task: ModelTask> {
  /// Where the run leaves everything; nil on all ranks but the first, which write nothing.
  public let folder: RunFolder?
  /// What all tasks can be told.
  public let settings: TrainingSettings
  /// What is trained.
  public let task: Task
  /// How far it came.
  public private(set) var trainer: Trainer<Task>

  private let fingerprint: RunFingerprint
  private let collective: any Collective
  private let recorder: RunRecorder?
  private let notices: [String]
  private let device: Device
  private var seconds: Double
  private var savedStep: Int?
  private var sampledStep: Int?

  /// Settings that a run may change when it goes on.
  public static var changeable: Set<String> {
    [
      "steps", "sample_every", "checkpoint_minutes", "prompts", "guidance", "sample_steps", "cache_bytes",
      "data",
      "model",
    ]
  }

  /// Begins a run in a new folder, or with `resuming` goes on with the one that is there.
  ///
  /// Throws `SettingsError`, `RunError`, `TrainingError`, and what opening the model throws. Nothing is written before all
  /// of these are known to be good. On several ranks it throws `CollectiveError` where they have other settings or data
  /// than the first; they need none of its files.
  public init(
    _ setup: TrainingSetup<Task>, in url: URL, resuming: Bool, on device: Device,
    collective: any Collective = Alone(), notice: @escaping @Sendable (String) -> Void
  ) throws {
    settings = setup.settings
    let (document, data) = (setup.document, setup.data)
    task = try setup.task(on: device, notice: notice)
    trainer = try Trainer(task, setup.trainer, on: device, collective: collective)
    (self.device, self.collective) = (device, collective)

    let isFixed = { !Self.changeable.contains($0) }
    var fingerprint = RunFingerprint(
      parameters: trainer.parameters.entries.map { ($0.fullName, $0.shape) }, data: data.hash,
      settings: document.hash(where: isFixed))
    fingerprint.formerSettings = document.spellingHash(where: isFixed)
    self.fingerprint = fingerprint
    try collective.check("the data", hash: FNV.hash(fingerprint.data.utf8))
    try collective.check("the networks", hash: FNV.hash(fingerprint.architecture.utf8))
    let common = document.hash { !["model", "data"].contains($0) }
    try collective.check("the settings", hash: FNV.hash(common.utf8))
    folder = try !collective.isFirst ? nil : resuming ? .resume(url) : .create(url, settings: document.json)
    let restored = resuming ? try folder?.latestState(fitting: fingerprint, on: device) : nil
    notices = restored?.notices ?? []
    savedStep = restored?.state.step
    if let state = restored?.state {
      try trainer.restore(
        Dictionary(uniqueKeysWithValues: state.tensors.map { ($0.name, $0.tensor) }),
        completedSteps: state.step,
        lossScale: state.lossScale)
    }
    if resuming { try folder?.write(settings: document.json) }
    recorder = try folder.map { try RunRecorder($0, after: restored?.state.step) }
    // Not of the state, which is the same bits however long it took.
    seconds = recorder?.last?.seconds ?? 0
    if resuming { try shareState() }
    prefetch()
  }

  /// Gives the first rank's state to the others.
  private mutating func shareState() throws {
    guard collective.count > 1 else { return }
    let step = Int(try collective.gathered(UInt64(trainer.completedSteps))[0])
    let scale = try collective.gathered(UInt64(trainer.lossScale.bitPattern))[0]
    guard step > 0 else { return }
    var states: [String: Tensor] = [:]
    for entry in trainer.parameters.entries {
      var values =
        try collective.isFirst
        ? entry.state.floats() : [Float](repeating: 0, count: entry.state.shape.count)
      try collective.broadcast(&values)
      if !collective.isFirst { states[entry.fullName] = try Tensor(values, entry.state.shape, on: device) }
    }
    if !collective.isFirst {
      try trainer.restore(
        states, completedSteps: step, lossScale: Float(bitPattern: UInt32(truncatingIfNeeded: scale)))
    }
  }

  /// Batches are prepared on another thread while steps are computed.
  private mutating func prefetch() {
    let (task, settings) = (task, settings)
    // Every step's parts are the first step's, moved by whole batches.
    let first = trainer.parts(ofStep: 0)
    let parts =
      trainer.completedSteps * first.count..<max(settings.steps, trainer.completedSteps) * first.count
    let ahead = Prefetcher(parts, ahead: 2 * first.count) { part in
      let (step, place) = part.quotientAndRemainder(dividingBy: first.count)
      let moved = UInt64(step) * UInt64(settings.batch)
      return try task.batch(first[place].lowerBound + moved..<first[place].upperBound + moved)
    }
    trainer.batches = { range in
      guard let next = try ahead.next() else { return try task.batch(range) }
      return next
    }
  }

  /// The averaged weights of each network, or the weights themselves where nothing is averaged.
  private var averaged: NetworkWeights {
    let parameters = trainer.parameters
    return { try parameters.source(of: $0, averaged: true) }
  }

  /// Trains to the last step, or until `shouldStop` says so after a step, on any rank; then writes state and model. It is
  /// asked while pictures are drawn too, and ends that.
  /// Returns whether the last step was reached. Only the first rank reports.
  ///
  /// Throws `TrainingError`, `RunError`, and what the data and the device throw; the last state is intact then.
  public mutating func run(
    shouldStop: () -> Bool, _ show: (TrainingEvent) throws -> Void
  ) throws -> Bool {
    let isFirst = collective.isFirst
    func report(_ event: TrainingEvent) throws { if isFirst { try show(event) } }
    for line in notices { try report(.notice(line)) }
    let flops = Mutex(0.0)
    device.observe { event in
      let work = event.operation.definition.work(of: event.inputs, output: event.output)
      flops.withLock { $0 += work.flops }
    }
    defer { device.observe(nil) }
    var lastSave = ContinuousClock.now
    var isStopped = false
    while trainer.completedSteps < settings.steps, !isStopped {
      let start = ContinuousClock.now
      flops.withLock { $0 = 0 }
      let done = try trainer.step()
      let elapsed = (ContinuousClock.now - start) / .seconds(1)
      seconds += elapsed
      let count = flops.withLock { $0 } * Double(collective.count)
      let entry = LogEntry(
        step: done.step, samples: UInt64(done.step) * UInt64(settings.batch), loss: Double(done.loss),
        rate: Double(done.rate), gradientNorm: Double(done.gradientNorm), seconds: seconds,
        samplesPerSecond: Double(settings.batch) / elapsed, gflops: count / elapsed / 1e9,
        memoryPeak: Self.peakMemory,
        lossScale: trainer.settings.precision == .float16 ? Double(trainer.lossScale) : nil)
      try recorder?.note(entry)
      try report(.step(entry, seconds: elapsed, flops: count))
      isStopped = try collective.any(shouldStop())
      let draws = settings.sampleEvery > 0 && done.step % settings.sampleEvery == 0 && !isStopped
      // Also before pictures are drawn, which may take long, fail, or be stopped.
      if draws || (ContinuousClock.now - lastSave) / .seconds(60) >= settings.checkpointMinutes {
        try save(report)
        lastSave = .now
      }
      if draws { isStopped = try collective.any(!sample(shouldStop, report)) }
    }
    // The state of this step may be there already, from a checkpoint or of a run that ended before its model.
    if savedStep != trainer.completedSteps { try save(report) }
    if let folder {
      try task.model(averaged).write(to: folder.model)
      try report(.model(folder.model))
    }
    if !isStopped, settings.sampleEvery > 0 { _ = try sample(shouldStop, report) }
    return trainer.completedSteps >= settings.steps
  }

  private struct DrawingStopped: Error {}

  /// Returns whether it came to its end; on ranks that draw nothing it did.
  private mutating func sample(
    _ shouldStop: () -> Bool, _ report: (TrainingEvent) throws -> Void
  ) throws -> Bool {
    let step = trainer.completedSteps
    guard sampledStep != step, let folder, let recorder else { return true }
    sampledStep = step
    do {
      if let picture = try task.samples(averaged, { if shouldStop() { throw DrawingStopped() } }) {
        try recorder.samples(picture, step: step)
        try report(.samples(folder.samples(step: step)))
      }
    } catch is DrawingStopped { return false }
    let figures = try task.figures(averaged)
    if !figures.isEmpty {
      try recorder.note(figures.map { (tag: "model/" + $0.name, value: $0.value) }, step: step)
      try report(.figures(figures, step: step))
    }
    return true
  }

  private mutating func save(_ report: (TrainingEvent) throws -> Void) throws {
    guard let folder else { return }
    let step = trainer.completedSteps
    try folder.save(
      RunState(
        step: step, samples: UInt64(step) * UInt64(settings.batch), seed: settings.seed,
        lossScale: trainer.settings.precision == .float16 ? trainer.lossScale : nil, data: fingerprint.data,
        settings: fingerprint.settings,
        tensors: trainer.parameters.entries.map { ($0.fullName, $0.state) }))
    savedStep = step
    try report(.saved(step: step))
  }

  /// Writes what was learnt under the checkpoints' names: NETWORK/PARAMETER.value, .mean, .square and .average in each
  /// parameter's own shape. Throws `CheckpointError.unwritable`.
  public func dumpState(to url: URL) throws {
    let tensors = try trainer.parameters.entries.flatMap { entry in
      try ["value", "mean", "square", "average"].enumerated().map { row, part in
        ("\(entry.fullName).\(part)", try entry.state.rows(row..<row + 1).reshaped(entry.shape))
      }
    }
    try SafetensorsWriter.write(tensors.map { (name: $0.0, tensor: $0.1) }, to: url)
  }

  /// The most bytes that the process has had in memory.
  private static var peakMemory: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }
}
