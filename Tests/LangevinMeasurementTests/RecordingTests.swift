import Foundation
import Langevin
import LangevinCPU
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import Synchronization
import Testing

private let devices = openDevices()

/// Kernels, copies and layer paths as the backends record them. Serialized: the devices are shared.
@Suite(.serialized) struct RecordingTests {
  private func unet(on device: Device) throws -> (model: UNet2DConditionModel, run: () throws -> Void) {
    let folder = fixtures.appending(path: "unet_sd1")
    let json = try [UInt8](Data(contentsOf: folder.appending(path: "config.json")))
    let config = try UNet2DConditionConfig(ConfigObject(StrictJSON(parsing: json, nonFinite: true)))
    let source = try SafetensorsFile(url: folder.appending(path: "weights.safetensors"))
    let model = try UNet2DConditionModel(config, Weights(source, on: device, component: "unet"))
    let latent = try Tensor.fill(
      0.5, [1, config.sampleSize, config.sampleSize, config.inChannels], on: device)
    let context = try Tensor.fill(0.1, [1, 3, config.crossAttentionChannels[0]], on: device)
    return (model, { _ = try model(latent, timesteps: [7], context: context).floats() })
  }

  @Test(arguments: devices)
  func offMeansNoRecords(device: Device) throws {
    let backend = device.backend
    _ = try Tensor.fill(1, [8], on: device).floats()
    #expect(try backend.takeRecords().isEmpty)
    #expect(try backend.takeTransfers().isEmpty)
    try backend.startRecording()
    _ = try Tensor.fill(1, [8], on: device).floats()
    try backend.stopRecording()
    // What was not taken is gone, and nothing more comes.
    _ = try Tensor.fill(1, [8], on: device).floats()
    #expect(try backend.takeRecords().isEmpty)
    #expect(try backend.takeTransfers().isEmpty)
  }

  @Test(arguments: devices)
  func aRecordHasTheOperationAndItsTimes(device: Device) throws {
    let a = try Tensor([Float](repeating: 1, count: 64 * 64), [64, 64], on: device)
    let before = HostClock.now
    try device.backend.startRecording()
    defer { try? device.backend.stopRecording() }
    let b = try layer("here") { try a.matmul(a, activation: .silu) }
    _ = try b.floats()
    let records = try device.backend.takeRecords()
    let after = HostClock.now
    #expect(!records.isEmpty)
    for record in records {
      #expect(record.operation?.kind == .matmul)
      #expect(record.inputs == [a.spec, a.spec])
      #expect(record.output == b.spec)
      #expect(record.path == "here")
      #expect(record.sequence == 0)
      #expect(record.queued <= record.submitted && record.submitted <= record.started)
      #expect(record.started < record.ended)
      #expect(before <= record.hostStart && record.hostStart < record.hostEnd && record.hostEnd <= after)
      #expect(record.memory >= a.spec.byteCount + b.spec.byteCount)
    }
    let transfers = try device.backend.takeTransfers()
    #expect(transfers.last?.direction == .download)
    #expect(transfers.last?.bytes == b.spec.byteCount)
    #expect(try device.backend.takeRecords().isEmpty, "records are handed over once")
  }

  @Test(arguments: devices)
  func recordingDoesNotChangeTheNumbers(device: Device) throws {
    let x = try Tensor.normal([1, 16, 16, 32], seed: 3, on: device)
    func compute() throws -> [Float] { try x.silu().reduced(.sum, axes: [1, 2]).softmax().floats() }
    let plain = try compute()
    try device.backend.startRecording()
    let recorded = try compute()
    try device.backend.stopRecording()
    #expect(plain == recorded)
    #expect(plain == (try compute()))
  }

  @Test(arguments: devices)
  func everyOperationOfAUNetCarriesItsLayersPath(device: Device) throws {
    let (_, run) = try unet(on: device)
    let events = Mutex<[OperationEvent]>([])
    device.observe { event in events.withLock { $0.append(event) } }
    try device.backend.startRecording()
    defer {
      device.observe(nil)
      try? device.backend.stopRecording()
    }
    try run()
    let records = try device.backend.takeRecords()
    #expect(records.allSatisfy { $0.path.hasPrefix("unet") })
    let paths = Set(records.map(\.path))
    for path in [
      "unet.conv_in", "unet.time_embedding.linear_1", "unet.down_blocks.0.resnets.0.conv1",
      "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
      "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2",
      "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff", "unet.mid_block.resnets.1.norm2",
      "unet.up_blocks.0", "unet.conv_norm_out", "unet.conv_out",
    ] { #expect(paths.contains(path), "no operation has the path \(path): \(paths.sorted())") }
    // The same operations as the observer saw, in the same order.
    var operations: [(Int, String)] = []
    for record in records where operations.last?.0 != record.sequence {
      operations.append((record.sequence, "\(record.operation?.name ?? record.label) \(record.path)"))
    }
    #expect(operations.map(\.1) == events.withLock { $0.map { "\($0.operation.name) \($0.path)" } })
  }

  @Test func spansNest() throws {
    let log = SpanLog()
    SpanLog.$current.withValue(log) {
      stage("outer") {
        layer("a") { layer("a.b") {} }
        stage("inner") {}
      }
    }
    #expect(log.spans.map(\.name) == ["outer", "a", "a.b", "inner"])
    #expect(log.spans.map(\.depth) == [0, 1, 2, 1])
    #expect(log.spans.map(\.kind) == [.stage, .layer, .layer, .stage])
    let outer = log.spans[0]
    #expect(log.spans.allSatisfy { outer.start <= $0.start && $0.start <= $0.end && $0.end <= outer.end })
    #expect(LayerPath.current.isEmpty)
  }

  @Test func aBackendThatCannotRecordSaysSo() throws {
    #expect { try Silent().startRecording() } throws: { "\($0)".contains("does not record its kernels") }
  }
}

/// A backend without recording.
private final class Silent: IdleBackend {
  let name = "silent"
}
