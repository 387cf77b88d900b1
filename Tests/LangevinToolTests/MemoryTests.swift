import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import Testing

/// A long batch takes no more memory than a short one.
struct MemoryTests {
  /// Bytes that the kernel counts as resident now.
  private func resident(_ process: Process) throws -> Int {
    let text = try String(contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
    let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
    return try #require(line.split(separator: " ").compactMap { Int($0) }.first) * 1024
  }

  /// Kept pictures would be 12 KiB an image, 3.8 MiB, and kept latents 4 KiB, 1.3 MiB.
  @Test(arguments: [[], ["--save-latents", "l.safetensors"]])
  func picturesAreLetGoAsTheyAreFinished(more: [String]) throws {
    let scratch = try Scratch()
    let running = try Tool.start(
      [
        "generate", "grinning face", "--device", "cpu", "--steps", "1", "--guidance", "1", "--quiet",
        "--count", "360", "--output", "p.png",
      ] + more, in: scratch.folder)
    func resident(at image: String) throws -> Int {
      let end = ContinuousClock.now + .seconds(120)
      let name = scratch.url("p-\(image).png").path
      while !FileManager.default.fileExists(atPath: name) {
        try #require(running.process.isRunning && ContinuousClock.now < end, "\(running.errors)")
        usleep(5_000)
      }
      return try self.resident(running.process)
    }
    let growth = try -resident(at: "020") + resident(at: "340")
    #expect(growth < 3 << 18, "\(growth) bytes")
    #expect(try running.finish().status == 0)
    guard !more.isEmpty else { return }
    let latents = try SafetensorsFile(url: scratch.url("l.safetensors")).load(
      "latents", on: Device(CPUBackend()))
    #expect(latents.shape == [360, 4, 16, 16])
  }

  @Test func aRequestCanBeRunWithoutKeepingWhatItMakes() throws {
    let checkpoint = try Checkpoint.open(DefaultModel.url)
    for lowMemory in [false, true] {
      let pipeline = try StableDiffusion(checkpoint, on: Device(CPUBackend()))
      var request = GenerationRequest(prompt: "grinning face", recommended: checkpoint.recommended)
      (request.seed, request.steps, request.count, request.lowMemory) = (1, 1, 3, lowMemory)
      (request.width, request.height) = (16, 16)
      let whole = try pipeline.generate(request)
      #expect(whole.clips.count == 3 && whole.seeds == [1, 2, 3] && whole.latents.shape == [3, 4, 4, 4])
      var (clips, latents): ([Clip], [Float]) = ([], [])
      try pipeline.stream(request) { event in
        switch event {
        case .sampled(let latent, let image):
          #expect(latents.count == image * 64)
          latents += try HostLatents(latent).values
        case .finished(let clip, let image, let seed):
          #expect(image == clips.count && seed == whole.seeds[image])
          clips.append(clip)
        default: break
        }
      }
      #expect(clips == whole.clips && latents == whole.latents.values)
    }
  }

  /// As many pictures are computed at once as the device has memory for, and a line says so.
  @Test func aBatchThatDoesNotFitBecomesSmaller() throws {
    let scratch = try Scratch()
    let (device, checkpoint) = (try Tool.pocl(), try Checkpoint.open(DefaultModel.url))
    func peak(_ batch: Int) throws -> Int {
      var request = GenerationRequest(prompt: "face", recommended: checkpoint.recommended)
      (request.count, request.batch, request.seed) = (8, batch, 1)
      return try MemoryPlan(
        request, with: checkpoint, precision: .float32, on: #require(DeviceChoice(device)).open()
      ).peak
    }
    let peaks = try [2, 4].map(peak)
    #expect(peaks[0] + 2 << 20 < peaks[1], "\(peaks): no whole MiB between them")
    let arguments = [
      "face", "--count", "8", "--device", device, "--plan", "--device-memory", "\(peaks[0] >> 20 + 1)",
    ]
    let outcome = try Tool.run(["generate", "--batch", "8"] + arguments, in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(outcome.errors.contains("2 pictures at once instead of 8, which need "))
    let small = try Tool.run(["generate", "--batch", "2"] + arguments, in: scratch.folder)
    #expect(small.status == 0 && small.errors.isEmpty, "\(small.errors)")
    #expect(small.output == outcome.output)
  }
}
