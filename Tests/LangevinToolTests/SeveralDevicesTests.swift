import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import Synchronization
import Testing

/// The pictures of one request over several devices: none is lost, and each is what its device draws alone.
@Suite struct SeveralDevicesTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test func sharesAreDoneAtAboutTheSameTime() {
    func shares(_ count: Int, batch: Int = 1, _ seconds: [Double]) -> [[Range<Int>]] {
      var request = GenerationRequest(prompt: "x")
      (request.count, request.batch) = (count, batch)
      return PipelineGroup.shares(of: request.batches, seconds: seconds)
    }
    #expect(shares(4, [1, 3]) == [[0..<1, 1..<2, 2..<3], [3..<4]])
    #expect(shares(2, [1, 3]) == [[0..<1, 1..<2], []])
    #expect(shares(4, [1, 1]) == [[0..<1, 2..<3], [1..<2, 3..<4]])
    #expect(shares(5, batch: 2, [2, 1]) == [[2..<4], [0..<2, 4..<5]])
    for count in 1...9 {
      let all = shares(count, [0.7, 1, 2.5])
      #expect(all.flatMap { $0 }.flatMap { Array($0) }.sorted() == Array(0..<count))
    }
  }

  // MARK: The library

  private func member(_ backend: any Backend, seconds: Double = 1) throws -> PipelineGroup.Member {
    let pipeline = try Pipelines.open(
      Checkpoint.open(DefaultModel.url), on: Device(backend), precision: .float32)
    return PipelineGroup.Member(pipeline, seconds: seconds)
  }

  private var request: GenerationRequest {
    var request = GenerationRequest(prompt: "grinning face")
    (request.steps, request.count, request.seed) = (2, 4, 7)
    return request
  }

  /// What a group draws, by image, and who drew it.
  private struct Drawn {
    var pictures: [Int: Picture] = [:]
    var members: [Int: Int] = [:]
    var seeds: [Int: UInt64] = [:]
    var failures: [Int] = []
    var loads: [String] = []
  }

  private func draw(_ members: [PipelineGroup.Member]) throws -> Drawn {
    var drawn = Drawn()
    let main = Thread.current
    try PipelineGroup(members).stream(
      request, failed: { member, _ in drawn.failures.append(member) },
      progress: { event, member in
        #expect(Thread.current === main)
        if case .loading(let name) = event { drawn.loads.append(name) }
        if case .finished(let clip, let image, let seed) = event {
          #expect(drawn.pictures[image] == nil)
          (drawn.pictures[image], drawn.members[image], drawn.seeds[image]) = (clip.picture, member, seed)
        }
      })
    return drawn
  }

  @Test func twoDevicesDrawWhatOneDraws() throws {
    let alone = try draw([member(CPUBackend())])
    #expect(alone.pictures.count == 4 && Set(alone.pictures.values.map(\.pixels)).count == 4)
    let both = try draw([member(CPUBackend()), member(CPUBackend(), seconds: 2)])
    #expect(both.pictures == alone.pictures && both.seeds == alone.seeds && both.failures.isEmpty)
    #expect(both.members == [0: 0, 1: 0, 2: 1, 3: 0])
    #expect(both.seeds == [0: 7, 1: 8, 2: 9, 3: 10])
    // Said once, though each loads them.
    #expect(both.loads == alone.loads)
  }

  @Test func whatADeviceFailsToDrawIsDrawnByTheOthers() throws {
    let alone = try draw([member(CPUBackend())])
    let count = try countedOperations()
    // From its first operation on, within its second picture, and never.
    for limit in [0, count * 3 / 4, Int.max] {
      let both = try draw([member(CPUBackend()), member(Failing(after: limit))])
      #expect(both.pictures == alone.pictures && both.seeds == alone.seeds)
      #expect(both.failures == (limit == .max ? [] : [1]), "after \(limit)")
      #expect(both.members.values.contains(1) == (limit > 0), "after \(limit): \(both.members)")
    }
  }

  // MARK: One picture

  /// The picture of a request for one, its loads, and how many operations the second device ran.
  private func drawOne(_ other: Failing?, change: (inout GenerationRequest) -> Void = { _ in }) throws
    -> (picture: Picture, loads: [String])
  {
    var one = request
    one.count = 1
    one.guidanceDevice = other.map { Device($0) }
    change(&one)
    var (picture, loads): (Picture?, [String]) = (nil, [])
    try member(CPUBackend()).pipeline.stream(one) { event in
      if case .loading(let name) = event { loads.append(name) }
      if case .finished(let clip, _, _) = event { picture = clip.picture }
    }
    return (try #require(picture), loads)
  }

  private func largestDifference(_ a: Picture, _ b: Picture) -> Int {
    zip(a.pixels, b.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 0
  }

  @Test func guidanceOnTwoDevicesDrawsWhatOneDraws() throws {
    for (negative, scale) in [("", 2.0), ("yellow", 7.5)] {
      func settings(_ request: inout GenerationRequest) {
        (request.negativePrompt, request.guidance) = (negative, scale)
      }
      let other = Failing(after: .max)
      let alone = try drawOne(nil, change: settings)
      let both = try drawOne(other, change: settings)
      #expect(largestDifference(alone.picture, both.picture) <= 1)
      #expect(both.loads == ["text encoder", "unet", "unet on cpu", "autoencoder"])
      // A step's half.
      #expect(other.count > 100)
    }
    // The negative's half matters: another one is seen.
    let other = try drawOne(Failing(after: .max)) {
      ($0.negativePrompt, $0.guidance) = ("red apple", 7.5)
    }
    let plain = try drawOne(nil) { $0.guidance = 7.5 }
    #expect(largestDifference(other.picture, plain.picture) > 8)
  }

  @Test func withoutGuidanceTheSecondDeviceComputesNothing() throws {
    let other = Failing(after: .max)
    let both = try drawOne(other) { $0.guidance = 1 }
    #expect(both.picture == (try drawOne(nil) { $0.guidance = 1 }).picture)
    #expect(other.count == 0 && !both.loads.contains("unet on cpu"))
  }

  @Test func aFailureOfTheDeviceForGuidanceIsTheRuns() throws {
    for limit in [0, 50] {
      #expect(throws: TensorError.deviceFailure(device: "cpu", operation: "all", reason: "the cable is out"))
      {
        _ = try drawOne(Failing(after: limit))
      }
    }
  }

  @Test func whatAddsToAStepDoesNotGoWithGuidanceOnTwoDevices() throws {
    #expect {
      _ = try drawOne(Failing(after: .max)) { $0.cache = .tGate(step: 1) }
    } throws: { error in
      "\(error)".contains("guidance on two devices does not go with cache")
    }
  }

  /// Of two pictures.
  private func countedOperations() throws -> Int {
    let backend = Failing(after: .max)
    var two = request
    two.count = 2
    try member(backend).pipeline.stream(two) { _ in }
    return backend.count
  }

  @Test func theLastFailureIsTheRuns() throws {
    #expect(
      throws: TensorError.deviceFailure(device: "cpu", operation: "all", reason: "the cable is out")
    ) {
      try draw([member(Failing(after: 0)), member(Failing(after: 100))])
    }
  }

  @Test func whatTheCallerThrowsStopsAllDevices() throws {
    struct Stop: Error {}
    let backends = [CPUBackend(), CPUBackend()]
    var events = 0
    #expect(throws: Stop.self) {
      try PipelineGroup(backends.map { try member($0) }).stream(
        request, failed: { _, _ in Issue.record("no device failed") },
        progress: { event, _ in
          events += 1
          if case .step = event { throw Stop() }
        })
    }
    #expect(events > 0)
    for backend in backends { #expect(backend.memory.inUse == 0) }
  }

  // MARK: The tool

  /// A cache in which all devices are equally fast, so that each gets its share on any machine.
  private func equalSpeeds() throws -> [String: String] {
    let environment = ["XDG_CACHE_HOME": scratch.url("cache").path]
    let measured = try Tool.run(["devices", "--measure"], in: scratch.folder, environment: environment)
    #expect(measured.status == 0, "\(measured.errors)")
    let folder = scratch.url("cache/langevin/speeds")
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
      let file = folder.appendingPathComponent(name)
      var kept = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
      kept?["seconds"] = 0.01
      try JSONSerialization.data(withJSONObject: #require(kept)).write(to: file)
    }
    return environment
  }

  @Test func picturesNamesAndSeedsAreThoseOfOneDevice() throws {
    let environment = try equalSpeeds()
    let devices = ["cpu", try Tool.pocl()]
    let common = ["dog", "red heart", "--steps", "2", "--seed", "5", "--count", "2", "--guidance", "2"]
    func draw(_ name: String, _ arguments: [String]) throws -> [(url: URL, picture: Picture, text: String)] {
      let outcome = try Tool.run(
        ["generate"] + common + [
          "--quiet", "--output", "\(name).png", "--save-latents", "\(name).safetensors",
        ]
          + arguments, in: scratch.folder, environment: environment)
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
      let names = outcome.output.split(separator: "\n").map(String.init)
      #expect(names == (0..<4).map { "\(name)-\($0).png" })
      return try names.map { file in
        let read = try Picture.read(scratch.url(file))
        return (scratch.url(file), read.picture, try #require(read.texts["parameters"]))
      }
    }
    let alone = try devices.enumerated().map { try draw("alone\($0)", ["--device", $1]) }
    let shared = try draw("shared", ["--devices", devices.joined(separator: ",")])
    func latents(_ name: String) throws -> [Float] {
      try SafetensorsFile(url: scratch.url("\(name).safetensors")).load("latents", on: Device(CPUBackend()))
        .floats()
    }
    let (ours, theirs) = (try latents("shared"), try ["alone0", "alone1"].map(latents))
    var seen: Set<Int> = []
    for image in 0..<4 {
      let drawer = try #require(alone.firstIndex { $0[image].text == shared[image].text })
      seen.insert(drawer)
      #expect(shared[image].picture == alone[drawer][image].picture)
      let rows = ours.count / 4 * image..<ours.count / 4 * (image + 1)
      #expect(Array(ours[rows]) == Array(theirs[drawer][rows]))
    }
    #expect(seen == [0, 1], "one device drew all")
  }

  @Test func whatRunsWhereIsSaid() throws {
    let (pocl, environment) = (try Tool.pocl(), try equalSpeeds())
    let outcome = try Tool.run(
      [
        "generate", "dog", "--steps", "1", "--seed", "5", "--count", "3", "--json", "--devices",
        "\(pocl),cpu",
      ], in: scratch.folder, environment: environment)
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.errorLines.contains { $0.hasPrefix("pictures: ") && $0.contains(" on cpu (") })
    #expect(outcome.errorLines.contains { $0.hasPrefix("3 of 3 pictures") })
    let json = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any]
    let outputs = try #require(json?["outputs"] as? [[String: Any]])
    #expect(outputs.compactMap { $0["seed"] as? Int } == [5, 6, 7])
    #expect(Set((json?["device"] as? String ?? "").split(separator: ",")) == ["cpu", Substring(pocl)])
    // One picture is drawn where it is done first, or by both where there is guidance.
    func one(_ options: [String]) throws -> Tool.Outcome {
      try Tool.run(
        ["generate", "dog", "--steps", "1", "--seed", "5", "--json", "--devices", "\(pocl),cpu"] + options,
        in: scratch.folder, environment: environment)
    }
    let plain = try one(["--guidance", "1"])
    #expect(plain.errorLines.contains { $0.hasPrefix("pictures: 1 on ") && $0.contains("; none on ") })
    let guided = try one(["--guidance", "3"])
    #expect(guided.errorLines.contains { $0.hasPrefix("guidance: the prompt on ") })
    #expect(guided.output.contains("cpu") && guided.output.contains(pocl))
  }

  @Test(arguments: [
    (["--devices", "cpu,cpu"], 64, "--devices names cpu twice"),
    (["--devices", "cpu,cuda"], 64, "unknown device 'cuda'"),
    (["--devices", "cpu,"], 64, "unknown device ''"),
    (["--devices", "auto,cpu"], 64, "--devices is all, or names of devices"),
    (["--devices", "cpu,opencl:99"], 64, "there is no device opencl:99"),
    (["--devices", "cpu", "--device", "cpu"], 64, "--device and --devices exclude each other"),
  ])
  func whatCannotBeIsOneLine(_ arguments: [String], status: Int32, words: String) throws {
    try Tool.expectFailure(arguments, status: status, words: [words], in: scratch)
  }

  @Test func allAreTheOnesThatPass() throws {
    let none = scratch.url("no-drivers")
    try FileManager.default.createDirectory(at: none, withIntermediateDirectories: false)
    let alone = try Tool.generate(
      ["--steps", "1", "--seed", "1", "--count", "2", "--json", "--devices", "all"], in: scratch.folder,
      environment: ["OCL_ICD_VENDORS": none.path + "/"])
    #expect(alone.status == 0 && alone.errors.isEmpty && alone.output.contains(#""device" : "cpu""#))
  }
}

/// The CPU backend of a device that is lost after so many operations.
private final class Failing: ForwardingBackend {
  private let cpu = CPUBackend()
  private let limit: Int
  private let done = Atomic(0)
  var base: any Backend { cpu }
  var count: Int { done.load(ordering: .relaxed) }

  init(after limit: Int) { self.limit = limit }

  func execute(_ operation: LangevinTensor.Operation, inputs: [TensorView], output: TensorView) throws {
    guard done.add(1, ordering: .relaxed).oldValue < limit else {
      throw TensorError.deviceFailure(device: "cpu", operation: "all", reason: "the cable is out")
    }
    try base.execute(operation, inputs: inputs, output: output)
  }
}
