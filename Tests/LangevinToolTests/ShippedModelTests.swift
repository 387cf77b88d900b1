import Foundation
import Langevin
import LangevinCPU
import LangevinDiffusion
import LangevinModels
import LangevinTensor
import Testing

/// The model that ships with the package: what it draws, and that each sampler copes with its noise.
struct ShippedModelTests {
  /// Red, green and blue of a square of 8 x 8 pixels, 0 to 255.
  private func colour(_ picture: Picture, x: Int, y: Int) -> [Int] {
    (0..<3).map { channel in
      var sum = 0
      for row in y..<y + 8 {
        for column in x..<x + 8 { sum += Int(picture.pixels[3 * (row * picture.width + column) + channel]) }
      }
      return sum / 64
    }
  }

  private func draw(_ prompt: String, _ change: (inout GenerationRequest) -> Void) throws -> Picture {
    let checkpoint = try Checkpoint.open(DefaultModel.url)
    let pipeline = try StableDiffusion(checkpoint, on: Device(CPUBackend()))
    var request = GenerationRequest(prompt: prompt, recommended: checkpoint.recommended)
    request.seed = 1
    change(&request)
    return try pipeline.generate(request).pictures[0]
  }

  /// The model's first timestep has no signal at all. A sampler draws the apple from there, or says that it cannot.
  @Test(arguments: SamplerRegistry.all) func everySamplerDrawsFromNoiseAlone(_ sampler: SamplerChoice)
    throws
  {
    func picture() throws -> Picture {
      try draw("red apple") { ($0.sampler, $0.steps) = (sampler, 12) }
    }
    if sampler == .pndm {
      let error = try #require(throws: DiffusionError.self) { _ = try picture() }
      #expect("\(error)".contains("rescale_betas_zero_snr") && !"\(error)".contains("\n"))
      return
    }
    let apple = try picture()
    let (middle, corner) = (colour(apple, x: 28, y: 36), colour(apple, x: 0, y: 56))
    #expect(middle[0] > 200 && middle[1] < 110 && middle[2] < 110, "\(middle)")
    #expect(corner.allSatisfy { $0 > 200 }, "\(corner)")
  }

  /// Euler's method by somebody else.
  private struct Foreign: ConfiguredSampler {
    static let description = SamplerDescription("foreign", purpose: "another package's")
    let own: EulerSampler

    init(_ file: SchedulerFile) throws { own = try EulerSampler(file) }

    func levels(_ request: LevelRequest) throws -> Schedule { try own.levels(request) }

    mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
      try step.euler(x, step.denoised(x), to: step.to)
    }
  }

  @Test func aSamplerOfAnotherPackageDraws() throws {
    func picture(_ sampler: SamplerChoice) throws -> Picture {
      try draw("red apple") { ($0.sampler, $0.steps) = (sampler, 6) }
    }
    let theirs = try picture(SamplerChoice(Foreign.self))
    #expect(try theirs == picture(.euler))
    #expect(try theirs != picture(.heun))
  }

  @Test(arguments: [
    ("blue heart", 2), ("green circle", 1), ("red square", 0), ("green heart", 1), ("blue circle", 2),
  ])
  func coloursAreThoseOfThePrompt(prompt: String, channel: Int) throws {
    for seed: UInt64 in 1...3 {
      let colour = colour(try draw(prompt) { ($0.seed, $0.steps) = (seed, 8) }, x: 28, y: 28)
      #expect(colour.firstIndex(of: try #require(colour.max())) == channel, "\(prompt), \(seed): \(colour)")
    }
  }

  @Test func everyNameOnItsListFitsIntoItsEncoder() throws {
    let text = try String(contentsOf: DefaultModel.url.appending(path: "prompts.txt"), encoding: .utf8)
    let names = text.split(separator: "\n").map(String.init)
    #expect(names.count == 2555 && Set(names).count == names.count)
    let tokenizer = try CLIPTokenizer(folder: DefaultModel.url.appending(path: "tokenizer"))
    for name in names { #expect(tokenizer.encode(name).count <= tokenizer.maximumLength - 2, "\(name)") }
  }
}
