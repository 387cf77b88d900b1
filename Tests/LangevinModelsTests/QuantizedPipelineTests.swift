import Foundation
import LangevinCPU
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinOpenCL
import LangevinTensor
import Synchronization
import Testing

@testable import Langevin

/// Whole generations with weights in blocks, on the networks of Fixtures/tiny-sd.
@Suite struct QuantizedPipelineTests {
  private let checkpoint: Checkpoint

  init() throws { checkpoint = try Checkpoint.open(Fixture.root.appending(path: "tiny-sd")) }

  private var request: GenerationRequest {
    var request = GenerationRequest(prompt: "a face")
    (request.steps, request.seed, request.guidance) = (4, 3, 3)
    (request.width, request.height) = (64, 64)
    return request
  }

  private func latents(_ checkpoint: Checkpoint, on device: Device, _ dtype: DType = .float32) throws
    -> [Float]
  {
    try Pipelines.open(checkpoint, on: device, precision: dtype).generate(request).latents.values
  }

  /// Of random weights, which nothing averages out: trained networks are less sensitive.
  @Test(arguments: [
    (BlockEncoding.q8, Float(0.02)), (.q6K, 0.08), (.q5, 0.16), (.q4K, 0.3), (.q4, 0.3),
  ])
  func fewerBitsAreFurtherOff(encoding: BlockEncoding, bound: Float) throws {
    let device = devices[0]
    let error = relativeError(
      try latents(checkpoint.quantized(encoding), on: device), try latents(checkpoint, on: device))
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil { print("\(encoding): \(error)") }
    #expect(error < bound && error > bound / 20, "\(encoding.rawValue) is off by \(error)")
  }

  /// The same blocks give the same latents, as dense weights do.
  @Test(arguments: Setting.all, [BlockEncoding.q8, .q4K]) func devicesAgree(
    setting: Setting, encoding: BlockEncoding
  ) throws {
    let quantized = checkpoint.quantized(encoding)
    let error = relativeError(
      try latents(quantized, on: setting.device, setting.dtype), try latents(quantized, on: devices[0]))
    #expect(error < (setting.dtype == .float32 ? 1e-3 : 2e-2), "off by \(error)")
  }

  /// Every product of the UNet and of the text encoder reads blocks where its rows allow, with kernels of the device's own.
  @Test(arguments: devices) func productsReadBlocks(shared: Device) throws {
    // Others use the shared one at the same time.
    let device = Device(shared.backend)
    let counts = Mutex((inBlocks: [:] as [LangevinTensor.Operation.Kind: Int], dense: Set<String>()))
    device.observe { event in
      let encoding: BlockEncoding?
      switch event.operation {
      case .matmul(let matmul): encoding = matmul.right.encoding
      case .conv2d(let conv): encoding = conv.weight.encoding
      default: return
      }
      counts.withLock {
        if encoding != nil {
          $0.inBlocks[event.operation.kind, default: 0] += 1
        } else {
          $0.dense.insert(event.path)
        }
      }
    }
    _ = try latents(checkpoint.quantized(.q8), on: device)
    let (inBlocks, dense) = counts.withLock { $0 }
    #expect(inBlocks[.matmul, default: 0] > 50 && inBlocks[.conv2d, default: 0] > 20, "\(inBlocks)")
    // A convolution of 4 channels has 36 inputs.
    let others = dense.filter { !$0.hasPrefix("vae") && !$0.contains("conv_in") }
    #expect(others.isEmpty, "\(others)")
    #expect(device.fallbacks.operations == 0 && device.decompositions.isEmpty, "\(device.decompositions)")
  }

  /// Products of int8 have the error of their inputs' 8 bits beside that of the weights'.
  @Test func int8ArithmeticIsAsFarOffAsItsEncoding() throws {
    let device = Device(devices[0].backend)
    let counts = Mutex((int8: 0, others: 0))
    device.observe { event in
      guard event.operation.blockInput != nil else { return }
      counts.withLock { if event.operation.roundsLeft { $0.int8 += 1 } else { $0.others += 1 } }
    }
    let quantized = checkpoint.quantized(.q8)
    let got = try latents(quantized.multiplying(in: .int8), on: device)
    // Convolutions of 3x3 stay in float32.
    let (int8, others) = counts.withLock { $0 }
    #expect(int8 > 50 && others > 20, "\(int8) products of int8, \(others) others")
    let error = relativeError(got, try latents(quantized, on: device))
    let ofWeights = relativeError(try latents(quantized, on: device), try latents(checkpoint, on: device))
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      print("int8: \(error) beside \(ofWeights) of the weights in q8_0")
    }
    #expect(error < 0.05 && error > 0.001, "off by \(error)")
  }

  @Test func int8ArithmeticNeedsBlocks() throws {
    for other in [checkpoint, checkpoint.quantized(.q4)] {
      #expect(throws: CheckpointError.noInt8Weights(path: checkpoint.url.path)) {
        try other.multiplying(in: .int8)
      }
    }
    #expect(throws: Never.self) { try checkpoint.multiplying(in: .float32) }
  }

  @Test(arguments: devices) func memoryIsKnownBefore(device: Device) throws {
    let backend: any Backend =
      device.name == "cpu" ? CPUBackend() : try OpenCLBackend(index: Int(device.name.dropFirst(7)) ?? 0)
    let counting = CountingBackend(backend)
    let fresh = Device(counting)
    let plan = try MemoryPlan(request, with: checkpoint.quantized(.q8), precision: .float32, on: fresh)
    #expect(counting.peak == 0, "planning allocated on the device")
    _ = try Pipelines.open(checkpoint.quantized(.q8), on: fresh).generate(request)
    #expect(plan.peak == counting.peak)
    guard device.name != "cpu" else { return }
    // Not what is in a mapped file, which only the CPU reads in place.
    let dense = try MemoryPlan(request, with: checkpoint, precision: .float32, on: fresh)
    let loaded = try #require(plan.stages.first { $0.name == "unet" }).loaded
    #expect(Double(loaded) < 0.4 * Double(try #require(dense.stages.first { $0.name == "unet" }).loaded))
  }

  /// What a GGUF file has in blocks gives what the same blocks give that are made at load.
  @Test func aGGUFFileDrawsWhatItsBlocksDraw() throws {
    let source = Fixture.root.appending(path: "tiny-sd.safetensors")
    let url = FileManager.default.temporaryDirectory.appending(path: "langevin-\(UUID().uuidString).gguf")
    defer { try? FileManager.default.removeItem(at: url) }
    _ = try GGUFConversion(source, encoding: .q8).write(to: url)
    // The file's own networks have a small vocabulary.
    let tokens = ["tokenizer": try checkpoint.tokenizer]
    let file = try Checkpoint.open(url).replacing(tokenizers: tokens)
    let dense = try Checkpoint.open(source).replacing(tokenizers: tokens)
    let device = devices[0]
    let error = relativeError(try latents(file, on: device), try latents(dense, on: device))
    #expect(error < 0.02 && error > 0, "off by \(error)")
    // As if its numbers were dense.
    let decoded = dense.replacing(
      components: try Dictionary(
        uniqueKeysWithValues: ["unet", "text_encoder"].map { name in
          let part = try file.component(name)
          return (
            name,
            Checkpoint.Component(part.className, config: part.config, weights: Decoded(part.weights))
          )
        }))
    #expect(relativeError(try latents(file, on: device), try latents(decoded, on: device)) < 1e-3)
  }
}

/// A source whose blocks nobody sees.
private final class Decoded: WeightSource {
  private let base: any WeightSource
  init(_ base: any WeightSource) { self.base = base }
  var names: [String] { base.names }
  var description: String { base.description }
  func spec(of name: String) -> TensorSpec? { base.spec(of: name) }
  func load(_ name: String, on device: Device) throws -> Tensor { try base.load(name, on: device) }
}
