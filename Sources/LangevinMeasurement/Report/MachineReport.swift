import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import LangevinValidation

import enum LangevinTensor.Operation

/// What a machine's devices can do, to be shared: the JSON beside `langevin report`'s markdown.
public struct MachineReport: Sendable, Codable {
  /// Changes when a field changes its meaning.
  public static let currentFormat = 2

  /// `currentFormat` of the writer.
  public var format = MachineReport.currentFormat
  /// The version of the tool that made the report.
  public var version: String
  /// When it began, ISO 8601.
  public var date: String
  /// It was stopped, or a device failed, before all was done.
  public var isPartial = false
  /// Where it was made.
  public var machine: Machine
  /// In the order in which they were measured.
  public var devices: [Probed] = []
  /// Which operations are right, and the cases that did not pass; nil where it was stopped before.
  public var validation: ValidationReport?
  /// Products, convolutions and attention at Stable Diffusion's shapes.
  public var operations: BenchReport?
  /// Denoising steps, a report for each model.
  public var steps: [BenchReport] = []
  /// The same picture on each device.
  public var pictures: [PictureResult] = []

  /// A device and what it says of itself.
  public struct Probed: Sendable, Codable {
    /// The device's name: `cpu`, `opencl:0`.
    public var name: String
    /// With driver and version.
    public var summary: String
    /// What it is; nil where it could not be opened.
    public var identity: BackendIdentity?
    /// Why it could not be opened.
    public var failure: String?

    /// A device that was opened.
    public init(_ device: Device) {
      let identity = device.identity
      (name, summary, self.identity) = (device.name, identity.summary, identity)
    }

    /// A device that was not.
    public init(name: String, failure: String) {
      (self.name, summary, self.failure) = (name, "not opened", failure)
    }
  }

  /// The shipped model's picture on one device.
  public struct PictureResult: Sendable, Codable {
    /// The device's name.
    public var device: String
    /// The prompt of the picture.
    public var prompt: String
    /// The seed of the picture's noise.
    public var seed: UInt64
    /// How many steps of DDIM were run.
    public var steps: Int
    /// SHA-256 of the pixels, RGB from the top left; nil where it failed.
    public var hash: String?
    /// The largest difference of a channel (of 255) to the CPU backend's picture.
    public var difference: Int?
    /// From prompt to pixels, with loading.
    public var seconds: Double?
    /// Why there is no picture.
    public var failure: String?
  }

  /// An empty report of this machine.
  public init(version: String, date: Date = Date()) {
    self.version = version
    self.date = ISO8601DateFormatter().string(from: date)
    machine = .current
  }

  /// Reads the JSON. Throws `MeasurementError.unreadable`.
  public static func read(_ url: URL) throws -> MachineReport {
    try MeasurementFile.read(url, MachineReport.self, format: currentFormat)
  }
}

/// Examines, validates and times the devices of this machine.
public struct Reporter: Sendable {
  /// Leaves out the full-size model, and most of the operations' cases.
  public var isQuick = false
  /// Rounds of every benchmark.
  public var rounds = 3
  /// Asked between measurements; once it says so, the report is what there is.
  public var shouldStop: @Sendable () -> Bool = { false }
  /// Told what is being done, in a line.
  public var progress: @Sendable (String) -> Void = { _ in }
  private let subjects: [Validator.Subject]
  private let version: String

  /// A reporter on these devices; `version` is the tool's.
  public init(_ subjects: [Validator.Subject], version: String) {
    self.subjects = subjects
    self.version = version
  }

  /// Validates, measures and draws. A device that fails is reported, and the others go on.
  ///
  /// Throws `CheckpointError` for the shipped model, and what the CPU backend throws as the reference.
  public func run() throws -> MachineReport {
    var report = MachineReport(version: version)
    report.devices = subjects.map { .init($0.device) }
    progress("validating")
    let cpu = Device(CPUBackend())
    var validator = Validator(version: version, reference: cpu)
    validator.shrinks = false
    var validation = try validator.run(
      isQuick ? OperationCases.tiny : OperationCases.edge, on: subjects, shouldStop: shouldStop,
      progress: { event in
        guard case .verdict(let verdict, let device) = event else { return }
        let count = verdict.passed + verdict.failed + verdict.skipped
        progress("validated \(verdict.operation) on \(device): \(count) cases, \(verdict.failed) failed")
      })
    // Thousands of cases that passed are no news; the operations' counts have them.
    for index in validation.devices.indices {
      validation.devices[index].cases.removeAll { $0.outcome == .passed }
    }
    report.validation = validation
    let lost = Set(validation.devices.filter { $0.failure != nil }.map(\.name))
    var bench = Bench(subjects.filter { !lost.contains($0.device.name) }, version: version)
    (bench.rounds, bench.shouldStop, bench.progress) = (rounds, shouldStop, progress)

    if !shouldStop() {
      let cases = Reporter.heaviest(isQuick ? 1 : 3)
      report.operations = try bench.run(
        .ops, model: nil, cases.map { BenchWorkload($0, dtype: .float32) })
    }
    for name in isQuick ? [nil] : [nil, RandomModel.stableDiffusion15Name] where !shouldStop() {
      let (title, checkpoint) = try RandomModel.open(name)
      report.steps.append(
        try bench.run(
          .step, model: title, BenchWorkload.model(.step, checkpoint, dtype: .float32)))
    }
    if !shouldStop() {
      let checkpoint = try RandomModel.open(nil).checkpoint
      report.pictures = try pictures(checkpoint, without: lost, reference: cpu)
    }
    report.isPartial =
      shouldStop() || validation.isPartial || report.operations?.isPartial ?? true
      || report.steps.contains(where: \.isPartial)
    return report
  }

  /// Of products, convolutions and attention, those of Stable Diffusion 1.5 with the most arithmetic.
  static func heaviest(_ count: Int) -> [OperationCase] {
    [Operation.Kind.matmul, .conv2d, .attention].flatMap { kind in
      let cases = OperationCases.model.filter { test in
        test.operation(.float32).kind == kind && test.models.contains("SD 1.5 UNet")
      }
      return Array(cases.sorted { $0.flops > $1.flops }.prefix(count))
    }
  }

  private func pictures(_ checkpoint: Checkpoint, without lost: Set<String>, reference: Device) throws
    -> [MachineReport.PictureResult]
  {
    var request = GenerationRequest(prompt: "grinning face")
    (request.seed, request.steps) = (1, isQuick ? 5 : 20)
    func draw(_ device: Device) throws -> Picture {
      try Pipelines.open(checkpoint, on: device).generate(request).pictures[0]
    }
    progress("the picture on the CPU backend, to compare with")
    let expected = try draw(reference)
    return subjects.filter { !lost.contains($0.device.name) && !shouldStop() }.map { subject in
      progress("the picture on \(subject.device.name)")
      var result = MachineReport.PictureResult(
        device: subject.device.name, prompt: request.prompt, seed: request.seed,
        steps: request.steps ?? 0)
      let start = ContinuousClock.now
      do {
        let picture = try draw(subject.device)
        result.seconds = (ContinuousClock.now - start) / .seconds(1)
        result.hash = SHA256.hex(picture.pixels)
        result.difference = zip(picture.pixels, expected.pixels).map { abs(Int($0) - Int($1)) }.max()
      } catch {
        result.failure = "\(error)"
      }
      return result
    }
  }
}
