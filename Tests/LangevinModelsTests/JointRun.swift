import Foundation
import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import Testing

/// A run of a folder's runs.json, whose latents the reference has computed.
struct JointRun: Decodable {
  let prompt: String
  var negativePrompt: String?
  let steps: Int
  let seed: UInt64
  let guidance: Double
  var strength: Double?
  var width, height: Int?
  var mask: Bool?

  static func all(in folder: URL, _ name: String) throws -> JointRun {
    let runs = try JSONDecoder().decode(
      [String: JointRun].self, from: Data(contentsOf: folder.appending(path: "runs.json")))
    return try #require(runs[name])
  }

  /// With torch's noise, and the folder's picture and mask where the run has them.
  func request(in folder: URL) throws -> GenerationRequest {
    var request = GenerationRequest(prompt: prompt)
    request.negativePrompt = negativePrompt ?? ""
    (request.guidance, request.steps, request.seed) = (guidance, steps, seed)
    (request.width, request.height, request.noise) = (width, height, .torch)
    if let strength {
      request.image = try Picture.read(folder.appending(path: "image.png")).picture
      request.strength = strength
    }
    if mask == true { request.mask = try Picture.read(folder.appending(path: "mask.png")).picture }
    return request
  }

  /// Rounding is multiplied by the guidance and carried through the steps.
  static func expect(_ result: GenerationResult, _ name: String, in folder: URL, _ setting: Setting) throws {
    let golden = try SafetensorsFile(url: folder.appending(path: "latents.safetensors"))
    let expected = try golden.load(name, on: setting.device)
    #expect(result.latents.shape == expected.shape)
    let error = relativeError(result.latents.values, try expected.floats())
    #expect(error < (setting.dtype == .float32 ? 1e-3 : 2e-2), "\(name) differs by \(error)")
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      print("\(setting.device.name) \(setting.dtype) \(folder.lastPathComponent) \(name): \(error)")
    }
  }

  /// A dry run counts what tensors then hold.
  static func expectPlan(
    of folder: URL, on device: Device, change: (inout GenerationRequest) throws -> Void = { _ in }
  ) throws {
    let backend: any Backend =
      device.name == "cpu" ? CPUBackend() : try OpenCLBackend(index: Int(device.name.dropFirst(7)) ?? 0)
    let counting = CountingBackend(backend)
    let fresh = Device(counting)
    let checkpoint = try Checkpoint.open(folder)
    var request = GenerationRequest(prompt: "a face")
    (request.steps, request.count) = (3, 2)
    try change(&request)
    let plan = try MemoryPlan(request, with: checkpoint, precision: .float32, on: fresh)
    #expect(counting.peak == 0, "planning allocated on the device")
    _ = try Pipelines.open(checkpoint, on: fresh).generate(request)
    #expect(plan.peak == counting.peak)
    #expect(plan.stages.map(\.name).contains("transformer"))
  }

  /// A component called by itself, with files as the reference's user writes them.
  static func expectComponent(_ name: String, of folder: URL, _ setting: Setting) throws {
    func file(_ kind: String) -> URL { folder.appending(path: "components/\(name).\(kind).safetensors") }
    let outputs = try ComponentCall.load(name, of: folder, on: setting.device, as: setting.dtype)(
      file("inputs"))
    let golden = try SafetensorsFile(url: file("outputs"))
    #expect(Set(outputs.map(\.name)) == Set(golden.names))
    for (output, tensor) in outputs {
      let expected = try golden.load(output, on: setting.device)
      #expect(tensor.shape == expected.shape)
      let error = relativeError(try tensor.floats(), try expected.floats())
      #expect(error < (setting.dtype == .float32 ? 1e-4 : 2e-2), "\(output) differs by \(error)")
    }
  }
}

/// A copy of a model's folder without some of its parts, whose other parts are links; gone with the object.
final class FolderCopy {
  let url = FileManager.default.temporaryDirectory.appending(path: "model-\(UUID().uuidString)")
  private let source: URL

  init(of source: URL, without parts: [String], edit: (String) -> String = { $0 }) throws {
    self.source = source
    let files = FileManager.default
    try files.createDirectory(at: url, withIntermediateDirectories: true)
    for name in try files.contentsOfDirectory(atPath: source.path)
    where !parts.contains(name) && name != "model_index.json" {
      try files.createSymbolicLink(
        at: url.appending(path: name), withDestinationURL: source.appending(path: name))
    }
    let index = try String(contentsOf: source.appending(path: "model_index.json"), encoding: .utf8)
    try edit(index).write(to: url.appending(path: "model_index.json"), atomically: true, encoding: .utf8)
  }

  /// A part with another configuration.
  func add(_ part: String, replacing old: String, with new: String) throws {
    let target = url.appending(path: part)
    try FileManager.default.copyItem(at: source.appending(path: part), to: target)
    let file = target.appending(path: part == "scheduler" ? "scheduler_config.json" : "config.json")
    let text = try String(contentsOf: file, encoding: .utf8)
    #expect(text.contains(old))
    try text.replacing(old, with: new).write(to: file, atomically: true, encoding: .utf8)
  }

  deinit { try? FileManager.default.removeItem(at: url) }
}
