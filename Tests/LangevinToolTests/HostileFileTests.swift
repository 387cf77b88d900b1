import Foundation
import Testing

@testable import Langevin

/// Files that would trap, hang or take all memory end with one line.
struct HostileFileTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Runs the tool with a limit on its address space in KiB and on its time, and expects one line and exit 1.
  private func expectRefusal(
    _ arguments: [String], status: Int32 = 1, words: [String], memory: Int = 4 << 20, seconds: Double = 20,
    location: SourceLocation = #_sourceLocation
  ) throws {
    let outcome = try limited(arguments, memory: memory, seconds: seconds, location: location).finish()
    #expect(outcome.status == status, "\(outcome.errors)", sourceLocation: location)
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)", sourceLocation: location)
    for word in words {
      #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)", sourceLocation: location)
    }
  }

  private func limited(
    _ arguments: [String], memory: Int, seconds: Double, location: SourceLocation = #_sourceLocation
  ) throws -> Tool.Running {
    let logs = try Scratch()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments =
      [
        "-c", "ulimit -v \(memory); exec \"$0\" \"$@\"",
        Bundle.main.bundleURL.appendingPathComponent("langevin").path,
      ]
      + arguments
    process.currentDirectoryURL = scratch.folder
    for (name, stream) in [("out", \Process.standardOutput), ("err", \Process.standardError)] {
      try #require(FileManager.default.createFile(atPath: logs.url(name).path, contents: nil))
      process[keyPath: stream] = try FileHandle(forWritingTo: logs.url(name))
    }
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let end = ContinuousClock.now + .seconds(seconds)
    while process.isRunning && ContinuousClock.now < end { usleep(20_000) }
    if process.isRunning {
      Issue.record("still running after \(seconds) s", sourceLocation: location)
      kill(process.processIdentifier, SIGKILL)
    }
    return Tool.Running(process: process, logs: logs)
  }

  private func generate(_ arguments: [String]) -> [String] {
    ["generate", "grinning face", "--quiet", "--device", "cpu", "--steps", "1"] + arguments
  }

  // MARK: A model's files

  @Test func whatIsNoRegularFileAmongAModelsFilesIsRefused() throws {
    let model = try scratch.model()
    for name in [
      "model_index.json", "langevin.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
      "scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
    ] {
      let file = model.appendingPathComponent(name)
      let contents = try Data(contentsOf: file)
      for (kind, make) in [
        ("FIFO", { #expect(mkfifo(file.path, 0o600) == 0) }),
        ("device", { #expect(symlink("/dev/zero", file.path) == 0) }),
        ("folder", { #expect(mkdir(file.path, 0o700) == 0) }),
      ] as [(String, () -> Void)] {
        try FileManager.default.removeItem(at: file)
        make()
        try expectRefusal(generate(["--model", model.path]), words: [name, kind])
      }
      try FileManager.default.removeItem(at: file)
      try contents.write(to: file)
    }
  }

  @Test func aSchedulersNumbersOutOfRangeAreNamed() throws {
    let model = try scratch.model()
    let file = model.appendingPathComponent("scheduler/scheduler_config.json")
    let text = try String(contentsOf: file, encoding: .utf8)
    for (from, to, field) in [
      ("\"thresholding\": false", "\"thresholding\": true", "dynamic_thresholding_ratio"),
      ("\"clip_sample\": false", "\"clip_sample\": true", "clip_sample_range"),
    ] {
      let value = field == "clip_sample_range" ? "-1.0" : "1.5"
      let edited = text.replacingOccurrences(of: from, with: to).replacing(
        try Regex("\"\(field)\": [0-9.]+"), with: "\"\(field)\": \(value)")
      #expect(edited != text)
      try Data(edited.utf8).write(to: file)
      try expectRefusal(
        generate(["--model", model.path, "--sampler", "ddim"]), words: [field, value, "is not"])
    }
  }

  @Test(arguments: [[4, 0, 1 << 40, 1 << 40], [1 << 31, 0]])
  func tensorsOfImpossibleShapesAreRefused(shape: [Int]) throws {
    let (component, name, dtype) =
      shape.count == 4 ? ("vae.decode", "z", "F32") : ("text_encoder", "input_ids", "I64")
    let json = #"{"\#(name)":{"dtype":"\#(dtype)","shape":\#(shape),"data_offsets":[0,0]}}"#
    let length = (0..<8).map { UInt8(truncatingIfNeeded: json.utf8.count >> (8 * $0)) }
    try Data(length + Array(json.utf8)).write(to: scratch.url("in.safetensors"))
    try expectRefusal(
      [
        "run", component, "--model", DefaultModel.url.path, "--inputs", "in.safetensors", "--output",
        "out.safetensors", "--device", "cpu",
      ], words: [name, "possible"])
  }

  @Test func aPromptOfAMegabyteIsRefused() throws {
    let prompts = scratch.url("prompts.txt")
    for part in ["(a ", "&amp;", "a, "] {
      try Data(String(repeating: part, count: (1 << 20) / part.utf8.count).utf8).write(to: prompts)
      try expectRefusal(
        [
          "generate", "--prompt-file", prompts.path, "--prompt-syntax", "a1111", "--device", "cpu", "--quiet",
        ],
        status: 64, words: ["a prompt must be at most 65536 bytes"])
    }
  }

  // MARK: Pictures

  @Test func aBombOfPixelsIsRefusedBeforeItIsDecoded() throws {
    let url = scratch.url("bomb.png")
    try SmallPNG.file(width: 32_768, height: 32_768).write(to: url)
    #expect(try Data(contentsOf: url).count < 200)
    try expectRefusal(
      generate(["--image", url.path]), words: ["32768x32768", "LANGEVIN_MAX_IMAGE_PIXELS"], memory: 1 << 20)
    // Within the limit it costs no more than the rows that it has.
    try SmallPNG.file(width: 8192, height: 8192).write(to: url)
    try expectRefusal(generate(["--image", url.path]), words: ["bomb.png", "not a PNG"], memory: 1 << 20)
  }

  @Test func limitsOfPicturesAreRaisedAndLowered() throws {
    let url = scratch.url("small.png")
    try SmallPNG.file(width: 4, height: 2, text: String(repeating: "a", count: 100_000)).write(to: url)
    var limits = ImageLimits()
    #expect(try Picture.read(url, limits: limits).texts["parameters"]?.utf8.count == 100_000)
    limits.metadata = 50_000
    #expect {
      try Picture.read(url, limits: limits)
    } throws: {
      "\($0)".contains("LANGEVIN_MAX_IMAGE_METADATA")
    }
    limits = ImageLimits()
    limits.pixels = 8
    #expect(try Picture.read(url, limits: limits).picture.width == 4)
    limits.pixels = 7
    #expect(throws: ImageError.self) { try Picture.read(url, limits: limits) }
    #expect(try ImageLimits(environment: ["LANGEVIN_MAX_IMAGE_PIXELS": "123"]).pixels == 123)
    for text in ["", "0", "-1", "x", "1e9", "99999999999999999999"] {
      #expect(throws: ImageError.self) { try ImageLimits(environment: ["LANGEVIN_MAX_IMAGE_METADATA": text]) }
    }
  }

  @Test func aBombOfTextIsRefusedBeforeItIsAllocated() throws {
    let url = scratch.url("text.png")
    try SmallPNG.file(width: 4, height: 2, text: String(repeating: "a", count: 100_000_000)).write(to: url)
    #expect(try Data(contentsOf: url).count < 250_000)
    try expectRefusal(
      generate(["--image", url.path]), words: ["text.png", "LANGEVIN_MAX_IMAGE_METADATA"], memory: 1 << 20)
  }

  @Test func picturesThatAreNoRegularFilesAreRefused() throws {
    let fifo = scratch.url("fifo.png")
    try #require(mkfifo(fifo.path, 0o600) == 0)
    try expectRefusal(generate(["--image", fifo.path]), words: ["FIFO"])
    try expectRefusal(generate(["--image", "/dev/zero"]), words: ["device"])
    try expectRefusal(generate(["--image", scratch.folder.path]), words: ["a folder"])
  }

  // MARK: Memory

  /// OpenBLAS maps 128 MiB a thread, and tries for ever where it gets none.
  @Test func tooLittleAddressSpaceForOpenBLASEndsTheRun() throws {
    let arguments = generate(["--output", "p.png", "--seed", "1"])
    for memory in [350_000, 400_000] {
      try expectRefusal(arguments, words: ["OpenBLAS needs", "ulimit -v"], memory: memory)
    }
    // With a little more, anything may be what finds no memory; the run still ends.
    for memory in stride(from: 450_000, through: 650_000, by: 50_000) {
      try limited(arguments, memory: memory, seconds: 30).process.waitUntilExit()
    }
  }
}

/// PNG files written by hand, past every check of a library: one row of pixels, whatever the header promises.
enum SmallPNG {
  static func file(width: Int, height: Int, text: String? = nil) throws -> Data {
    func big(_ number: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * $0)) } }
    func chunk(_ name: String, _ body: [UInt8]) -> [UInt8] {
      let whole = Array(name.utf8) + body
      return big(body.count) + whole + big(Int(checksum(whole)))
    }
    var bytes: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    bytes += chunk("IHDR", big(width) + big(height) + [8, 2, 0, 0, 0])
    if let text {
      bytes += chunk("zTXt", Array("parameters".utf8) + [0, 0] + (try deflated(Array(text.utf8))))
    }
    let rows = [UInt8](repeating: 0, count: min(height, 2) * (1 + 3 * min(width, 4)))
    bytes += chunk("IDAT", try deflated(rows)) + chunk("IEND", [])
    return Data(bytes)
  }

  private static func checksum(_ bytes: [UInt8]) -> UInt32 {
    var crc: UInt32 = ~0
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 {
        let isOdd = crc & 1 == 1
        crc >>= 1
        if isOdd { crc ^= 0xEDB8_8320 }
      }
    }
    return ~crc
  }

  /// In zlib's format, by gzip, whose frame is another one.
  private static func deflated(_ bytes: [UInt8]) throws -> [UInt8] {
    let folder = try Scratch()
    try Data(bytes).write(to: folder.url("in"))
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "gzip -n -9 -c in > out"]
    process.currentDirectoryURL = folder.folder
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    let body = [UInt8](try Data(contentsOf: folder.url("out"))).dropFirst(10).dropLast(8)
    var (a, b): (UInt32, UInt32) = (1, 0)
    bytes.withUnsafeBufferPointer { bytes in
      for byte in bytes {
        a = (a &+ UInt32(byte)) % 65_521
        b = (b &+ a) % 65_521
      }
    }
    return [0x78, 0xDA] + body + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: (b << 16 | a) >> $0) }
  }
}
