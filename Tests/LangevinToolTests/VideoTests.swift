import Foundation
import Langevin
import Testing

/// Videos are probed with ffprobe where it is installed; what happens without ffmpeg is tested everywhere.
@Suite struct VideoTests {
  private static let tools: (ffmpeg: Bool, ffprobe: Bool) = (found("ffmpeg"), found("ffprobe"))

  private static func found(_ program: String) -> Bool {
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").contains {
      FileManager.default.isExecutableFile(atPath: "\($0)/\(program)")
    }
  }

  private let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("video-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  private func file(_ name: String) -> URL { folder.appendingPathComponent(name) }
  private func listing() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
  }

  /// Plain colours: red grows, green shrinks.
  private func frames(_ count: Int, width: Int = 48, height: Int = 32) throws -> [Picture] {
    try (0..<count).map { index in
      let colour = [
        UInt8(20 + 200 * index / max(count - 1, 1)), UInt8(230 - 200 * index / max(count - 1, 1)), 40,
      ]
      return try Picture(
        width: width, height: height, pixels: (0..<width * height).flatMap { _ in colour })
    }
  }

  private func output(_ program: String, _ arguments: [String]) throws -> Data {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    return data
  }

  @Test(.enabled(if: tools.ffmpeg && tools.ffprobe)) func mp4() throws {
    let url = file("out.mp4")
    try VideoFile.check(url)
    #expect(try listing() == [])
    let frames = try frames(9)
    let written = try VideoFile.write(frames, framesPerSecond: 16, to: url, text: "a cat\nSteps: 2")
    #expect(written == [url])
    #expect(try listing() == ["out.mp4"])
    let probe = try output(
      "ffprobe",
      [
        "-v", "error", "-count_frames", "-show_entries",
        "stream=codec_name,width,height,pix_fmt,color_space,r_frame_rate,nb_read_frames:format_tags=comment",
        "-of",
        "default=noprint_wrappers=1", url.path,
      ])
    let lines = Set(String(decoding: probe, as: UTF8.self).split(separator: "\n").map(String.init))
    for line in [
      "codec_name=h264", "width=48", "height=32", "pix_fmt=yuv420p", "color_space=bt709", "r_frame_rate=16/1",
      "nb_read_frames=9", "TAG:comment=a cat",
    ] {
      #expect(lines.contains(line), "\(line) in \(lines)")
    }
    // The colours come back, in order.
    let raw = [UInt8](
      try output("ffmpeg", ["-v", "error", "-i", url.path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]))
    try #require(raw.count == 9 * 48 * 32 * 3)
    for (index, frame) in frames.enumerated() {
      let centre = (16 * 48 + 24) * 3
      for channel in 0..<3 {
        let difference =
          Int(raw[index * 48 * 32 * 3 + centre + channel]) - Int(frame.pixels[centre + channel])
        #expect(abs(difference) <= 6, "frame \(index), channel \(channel): \(difference)")
      }
    }
  }

  @Test(.enabled(if: tools.ffmpeg)) func webp() throws {
    let url = file("out.webp")
    try VideoFile.write(frames(5), framesPerSecond: 8, to: url)
    let bytes = [UInt8](try Data(contentsOf: url))
    // A RIFF of chunks: animation parameters, and one chunk for each frame that differs from the last.
    #expect(bytes.starts(with: Array("RIFF".utf8)) && bytes[8..<12].elementsEqual("WEBP".utf8))
    var chunks: [String: Int] = [:]
    var position = 12
    while position + 8 <= bytes.count {
      chunks[String(decoding: bytes[position..<position + 4], as: UTF8.self), default: 0] += 1
      let size = (0..<4).reduce(0) { $0 | Int(bytes[position + 4 + $1]) << (8 * $1) }
      position += 8 + size + size % 2
    }
    #expect(chunks["ANIM"] == 1 && chunks["ANMF"] == 5)
    #expect(try listing() == ["out.webp"])
  }

  @Test func numberedPictures() throws {
    let frames = try frames(3, width: 7, height: 5)
    try VideoFile.check(file("out.png"), environment: [:])
    let written = try VideoFile.write(
      frames, framesPerSecond: 8, to: file("out.png"), text: "a cat", environment: [:])
    #expect(try listing() == ["out-0000.png", "out-0001.png", "out-0002.png"])
    #expect(written == ["out-0000.png", "out-0001.png", "out-0002.png"].map(file))
    for (frame, url) in zip(frames, written) {
      let png = try Picture.read(url)
      #expect(png.picture == frame && png.texts == ["parameters": "a cat"])
    }
    #expect(try VideoFile.files(file("a.PNG"), count: 10_001).last == file("a-10000.PNG"))
  }

  @Test func clips() throws {
    let parameters = PictureParameters(prompt: "a cat", fields: [.init("Steps", "2")])
    let frames = try frames(2)
    #expect(try Clip(frames: [frames[0]]).write(to: file("still.png"), parameters) == [file("still.png")])
    let video = Clip(frames: frames, framesPerSecond: 8)
    #expect(try video.write(to: file("out.png"), parameters).count == 2)
    #expect(try listing() == ["out-0000.png", "out-0001.png", "still.png"])
    #expect(try Picture.read(file("out-0001.png")).texts == ["parameters": parameters.description])
  }

  /// The tool says so before it computes anything.
  @Test func videosWithoutFFmpegOrVideoModel() throws {
    let scratch = try Scratch()
    let arguments = ["--device", "cpu", "--output", "out.mp4"]
    try Tool.expectFailure(
      arguments, words: ["out.mp4", "ffmpeg", "apt install ffmpeg"], environment: ["PATH": ""], in: scratch)
    if Self.tools.ffmpeg {
      try Tool.expectFailure(
        arguments, status: 64, words: ["StableDiffusionPipeline makes pictures, not videos"], in: scratch)
    }
  }

  @Test func withoutFFmpeg() throws {
    for name in ["out.mp4", "out.webp"] {
      for environment in [[:], ["PATH": ""], ["PATH": folder.path]] {
        let error = VideoError.noEncoder(path: file(name).path)
        #expect(throws: error) { try VideoFile.check(file(name), environment: environment) }
        #expect(throws: error) {
          try VideoFile.write(frames(2), framesPerSecond: 8, to: file(name), environment: environment)
        }
        #expect(error.description.contains("ffmpeg") && !error.description.contains("\n"))
      }
    }
    #expect(try listing() == [])
  }

  /// A program of that name which fails, with and without reading: its last line is told, nothing stays behind.
  @Test(arguments: [
    "cat > /dev/null; echo first >&2; echo 'no such codec' >&2; exit 3", "echo 'no such codec' >&2; exit 1",
  ])
  func failingFFmpeg(_ script: String) throws {
    let programs = folder.appendingPathComponent("bin")
    try FileManager.default.createDirectory(at: programs, withIntermediateDirectories: true)
    let program = programs.appendingPathComponent("ffmpeg")
    try "#!/bin/sh\n\(script)\n".write(to: program, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program.path)
    let environment = ["PATH": "\(programs.path):/usr/bin:/bin"]
    let url = file("out.mp4")
    try "old".write(to: url, atomically: true, encoding: .utf8)
    #expect(throws: VideoError.encoderFailed(path: url.path, "no such codec")) {
      try VideoFile.write(
        frames(40, width: 256, height: 256), framesPerSecond: 8, to: url, environment: environment)
    }
    #expect(try listing() == ["bin", "out.mp4"])
    #expect(try String(contentsOf: url, encoding: .utf8) == "old")
  }

  @Test func badInput() throws {
    let large = try frames(2)
    let mixed = try large + frames(1, width: 8, height: 8)
    let odd = try frames(2, width: 7, height: 8)
    for (frames, rate, name, reason) in [
      (large, 8.0, "out.gif", ".mp4, .webp or .png"), (large, 8, "out", ".mp4, .webp or .png"),
      ([], 8, "out.png", "no frames"), (mixed, 8, "out.png", "differ in size"),
      (large, 0, "out.png", "0.0 frames"),
      (odd, 8, "out.mp4", "even width and height"),
    ] {
      let error = #expect(throws: VideoError.self) {
        try VideoFile.write(frames, framesPerSecond: rate, to: file(name))
      }
      #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }
    let url = URL(fileURLWithPath: "/proc/none/out.png")
    #expect(throws: ImageError.self) { try VideoFile.check(url) }
    #expect(throws: ImageError.self) { try VideoFile.write(large, framesPerSecond: 8, to: url) }
  }
}
