import Foundation

/// The program ffmpeg, which is given frames on its standard input.
struct FFmpeg {
  let executable: URL
  /// The file that is made, for messages.
  let path: String
  private let environment: [String: String]

  /// Looks for it on PATH. Throws `VideoError.noEncoder`.
  init(for url: URL, environment: [String: String]) throws {
    let folders = (environment["PATH"] ?? "").split(separator: ":").filter { $0.hasPrefix("/") }
    let programs = folders.map { URL(fileURLWithPath: String($0)).appendingPathComponent("ffmpeg") }
    guard let found = programs.first(where: { FileManager.default.isExecutableFile(atPath: $0.path) }) else {
      throw VideoError.noEncoder(path: url.path)
    }
    (executable, path, self.environment) = (found, url.path, environment)
  }

  /// Encodes frames of one size into a file that may exist. Throws `VideoError.encoderFailed`.
  func encode(
    _ frames: [Picture], framesPerSecond: Double, as format: VideoFormat, text: String?, to file: URL
  ) throws {
    let process = Process()
    process.executableURL = executable
    process.environment = environment
    process.arguments =
      [
        "-hide_banner", "-nostats", "-loglevel", "error", "-f", "rawvideo", "-pixel_format", "rgb24",
        "-video_size", "\(frames[0].width)x\(frames[0].height)", "-framerate", "\(framesPerSecond)",
        "-i", "pipe:0",
      ] + Self.encoder(format) + (text.map { ["-metadata", "comment=\($0)"] } ?? []) + [
        "-f", format.rawValue, "-y", file.path,
      ]
    // A socket rather than a pipe: writing to one whose reader is gone need not raise a signal.
    var ends: [Int32] = [0, 0]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0,
      let errors = tmpfile()
    else {
      throw failed(String(cString: strerror(errno)))
    }
    defer { fclose(errors) }
    let input = FileHandle(fileDescriptor: ends[0], closeOnDealloc: true)
    process.standardInput = input
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle(fileDescriptor: fileno(errors), closeOnDealloc: false)
    do {
      try process.run()
    } catch {
      close(ends[1])
      throw failed("it does not start")
    }
    try? input.close()
    // Where it stops reading it says why.
    for frame in frames where !Self.send(frame.pixels, to: ends[1]) { break }
    close(ends[1])
    process.waitUntilExit()
    guard process.terminationReason == .exit, process.terminationStatus == 0 else {
      throw failed(Self.lastLine(errors) ?? "it ended with code \(process.terminationStatus)")
    }
  }

  private func failed(_ reason: String) -> VideoError { .encoderFailed(path: path, reason) }

  private static func encoder(_ format: VideoFormat) -> [String] {
    guard format == .mp4 else { return ["-c:v", "libwebp_anim", "-quality", "90", "-loop", "0"] }
    // The matrix that players assume of video, and say that it is that one.
    return [
      "-vf", "scale=out_color_matrix=bt709:out_range=tv", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf",
      "17",
      "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv",
      "-movflags", "+faststart",
    ]
  }

  /// False where nobody reads any longer.
  private static func send(_ pixels: [UInt8], to socket: Int32) -> Bool {
    pixels.withUnsafeBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        let start = UnsafeRawBufferPointer(rebasing: rest).baseAddress
        let count = Foundation.send(socket, start, rest.count, Int32(MSG_NOSIGNAL))
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return false }
        rest = rest.dropFirst(count)
      }
      return true
    }
  }

  private static func lastLine(_ file: UnsafeMutablePointer<FILE>) -> String? {
    guard let bytes = try? text(FileHandle(fileDescriptor: fileno(file), closeOnDealloc: false)) else {
      return nil
    }
    return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).last.map(String.init)
  }

  private static func text(_ handle: FileHandle) throws -> Data {
    try handle.seek(toOffset: 0)
    return try handle.readToEnd() ?? Data()
  }
}
