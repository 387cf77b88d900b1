import Foundation
import Testing

@testable import Langevin

/// Files that are written: what is there already, what is left behind, and names.
struct OutputFileTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func write(_ text: String, to name: String) throws {
    try Array(text.utf8).withUnsafeBytes { try OutputFile.write($0, to: scratch.url(name)) }
  }

  private func text(_ name: String) throws -> String {
    try String(contentsOf: scratch.url(name), encoding: .utf8)
  }

  private func status(_ name: String) throws -> stat {
    var status = stat()
    try #require(lstat(scratch.url(name).path, &status) == 0)
    return status
  }

  private func path(_ name: String) -> String { scratch.url(name).path }

  private func generate(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.generate(
      ["--device", "cpu", "--steps", "1", "--width", "8", "--height", "8"] + arguments, in: scratch.folder)
  }

  // MARK: What is there already

  @Test func aNamedPipeIsWrittenInto() throws {
    try #require(mkfifo(path("pipe.png"), 0o600) == 0)
    try OutputFile.check(scratch.url("pipe.png"))
    let reader = Process()
    reader.executableURL = URL(fileURLWithPath: "/bin/sh")
    reader.arguments = ["-c", "exec cat pipe.png > got.png"]
    reader.currentDirectoryURL = scratch.folder
    try reader.run()
    // A thread of the tests may have its signals blocked, which is inherited.
    defer { kill(reader.processIdentifier, SIGKILL) }
    let outcome = try generate(["--output", "pipe.png"])
    #expect(outcome.status == 0, "\(outcome.errors)")
    // Where it is gone, its reader waits for ever.
    try #require(try status("pipe.png").st_mode & S_IFMT == S_IFIFO)
    reader.waitUntilExit()
    #expect(try Picture.read(scratch.url("got.png")).picture.width == 8)
  }

  /// Only the superuser makes devices, and only the superuser could have replaced one.
  @Test(.enabled(if: geteuid() == 0)) func aDeviceIsWrittenInto() throws {
    for (name, number) in [("null", 3), ("full.json", 7)] {
      try #require(mknod(path(name), S_IFCHR | 0o666, dev_t(1 << 8 | number)) == 0)
      try OutputFile.check(scratch.url(name))
    }
    try write("nothing", to: "null")
    let error = #expect(throws: ImageError.self) { try write("much", to: "full.json") }
    #expect(try #require(error).description.hasSuffix("cannot be written: No space left on device"))
    for name in ["null", "full.json"] { #expect(try status(name).st_mode & S_IFMT == S_IFCHR) }
    #expect(try scratch.files() == ["full.json", "null"])
  }

  @Test func standardOutputIsWrittenIntoWhereItIs() throws {
    let arguments = ["validate", "--device", "cpu", "--op", "add", "--shapes", "tiny", "--json"]
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
      let outcome = try Tool.run(arguments + [name], in: scratch.folder)
      let parts = outcome.output.components(separatedBy: " passes")
      #expect(outcome.status == 0 && parts.count == 2 && parts[1].hasSuffix("}\n"), "\(outcome)")
    }
    let closed = try Tool.run(arguments + ["/dev/stdout"], redirected: ">&-", in: scratch.folder)
    #expect(closed.status == 1 && closed.errorLines.count == 1, "\(closed.errors)")
  }

  @Test func aSymbolicLinkIsFollowedAndAFilesPermissionsStay() throws {
    try write("old", to: "folder/file")
    try #require(chmod(path("folder/file"), 0o640) == 0)
    try #require(symlink("folder/file", path("near")) == 0 && symlink("near", path("far")) == 0)
    try #require(symlink("new/place", path("dangling")) == 0)
    for name in ["far", "near", "dangling"] {
      try OutputFile.check(scratch.url(name))
      try write("by \(name)", to: name)
      #expect(try status(name).st_mode & S_IFMT == S_IFLNK && text(name) == "by \(name)")
    }
    #expect(try text("folder/file") == "by near" && text("new/place") == "by dangling")
    #expect(try status("folder/file").st_mode == S_IFREG | 0o640)
    try #require(symlink("b", path("a")) == 0 && symlink("a", path("b")) == 0)
    for body in [{ try OutputFile.check(scratch.url("a")) }, { try write("", to: "a") }] {
      let error = #expect(throws: ImageError.self, performing: body)
      #expect(try #require(error).description.contains("Too many levels of symbolic links"))
    }
  }

  @Test func aFolderAndASocketAreRefused() throws {
    try FileManager.default.createDirectory(at: scratch.url("folder"), withIntermediateDirectories: false)
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // Relative, as a socket's path is short.
    let path = path("socket")
    try #require(path.utf8.count < 100)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(bound == 0)
    for (name, reason) in [("folder", "it is a folder"), ("socket", "it is a socket")] {
      let url = scratch.url(name)
      let expected = ImageError.unwritable(path: url.path, reason: reason)
      #expect(throws: expected) { try OutputFile.check(url) }
      #expect(throws: expected) { try write("", to: name) }
    }
    #expect(try scratch.files() == ["folder", "socket"])
  }

  // MARK: Names

  @Test func aNameMayBeAsLongAsTheFileSystemAllows() throws {
    let name = String(repeating: "x", count: 251) + ".png"
    #expect(try generate(["--output", name]).status == 0)
    #expect(try scratch.files() == [name])
    let longer = try generate(["--output", "x" + name])
    #expect(longer.status == 1 && longer.errors.contains("File name too long"), "\(longer.errors)")
  }

  @Test func foldersAreMadeWhenThereIsSomethingToPutIn() throws {
    let options = [
      "--output", "a/b/p.png", "--save-latents", "c/d/l.safetensors", "--preview", "every:1",
      "--preview-folder", "e/f",
    ]
    #expect(try generate(options + ["--model", "/missing"]).status == 1)
    #expect(try scratch.files() == [])
    let outcome = try generate(options)
    #expect(outcome.status == 0 && !outcome.errors.contains("error"), "\(outcome.errors)")
    for file in ["a/b/p.png", "c/d/l.safetensors", "e/f/p-step-0001.png"] {
      #expect(FileManager.default.fileExists(atPath: path(file)), "\(file)")
    }
    try write("a file", to: "file")
    let blocked = try generate(["--output", "file/p.png"])
    #expect(blocked.status == 1 && blocked.errors.contains("Not a directory"), "\(blocked.errors)")
  }

  @Test func picturesOfABatchSortByTheirNumbers() throws {
    #expect(try generate(["--count", "11", "--output", "p.png"]).status == 0)
    let numbers = (0..<11).map { $0 < 10 ? "0\($0)" : "\($0)" }
    #expect(try scratch.files() == numbers.map { "p-\($0).png" })
  }

  @Test func aDefaultNameReplacesNothingAndAGivenOneDoes() throws {
    for (name, steps) in [("langevin-5.png", 1), ("langevin-5-1.png", 2), ("langevin-5-2.png", 3)] {
      let outcome = try generate(["--seed", "5", "--steps", "\(steps)"])
      #expect(outcome.status == 0 && outcome.output == "\(name)\n", "\(outcome)")
      let text = try #require(try Picture.read(scratch.url(name)).texts["parameters"])
      #expect(PictureParameters(parsing: text)["Steps"] == "\(steps)")
    }
    #expect(try generate(["--output", "langevin-5.png", "--seed", "6"]).output == "langevin-5.png\n")
    #expect(try scratch.files().count == 3)
    // Of several at once each finds a name of its own.
    let running = try (0..<4).map { _ in
      try Tool.start(
        [
          "generate", "grinning face", "--device", "cpu", "--steps", "1", "--width", "8", "--height", "8",
          "--seed", "7",
        ], in: scratch.folder)
    }
    let names = try running.map { try $0.finish().output }
    #expect(Set(names).count == 4 && names.contains("langevin-7.png\n"), "\(names)")
    #expect(try scratch.files().count == 7)
  }

  @Test func aDashIsStandardOutput() throws {
    let arguments = [
      "generate", "grinning face", "--device", "cpu", "--steps", "1", "--seed", "1", "--output",
    ]
    let outcome = try Tool.run(arguments + ["-"], redirected: ">got.png", in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(try Tool.run(arguments + ["p.png"], in: scratch.folder).status == 0)
    #expect(try Data(contentsOf: scratch.url("got.png")) == Data(contentsOf: scratch.url("p.png")))
    for (more, words) in [(["--count", "2"], "one picture, not 2"), (["--json"], "--output - and --json")] {
      let refused = try generate(["--output", "-"] + more)
      #expect(refused.status == 64 && refused.errors.contains(words), "\(refused.errors)")
    }
    let full = try Tool.run(arguments + ["-", "--quiet"], redirected: ">/dev/full", in: scratch.folder)
    #expect(full.status == 1 && full.errorLines.count == 1, "\(full.errors)")
    #expect(full.errors.contains("No space left on device"), "\(full.errors)")
  }

  // MARK: What is left behind

  private func parts() throws -> [String] { try scratch.files().filter { $0.hasSuffix(".part") } }

  @Test func whatKilledRunsLeaveIsSweptByTheNext() throws {
    let arguments = [
      "generate", "grinning face", "--device", "cpu", "--steps", "900", "--quiet", "--output", "p.png",
      "--save-latents", "l.safetensors",
    ]
    for _ in 0..<4 {
      let before = try Set(parts())
      let running = try (0..<5).map { _ in try Tool.start(arguments, in: scratch.folder) }
      let end = ContinuousClock.now + .seconds(60)
      func own() throws -> Set<String> { try Set(parts()).subtracting(before) }
      while try own().count < 5, ContinuousClock.now < end { usleep(10_000) }
      // A run sweeps what is there when it starts, so that only those of these five can be there.
      let left = try Set(parts())
      try #require(left.count == 5 && left.isDisjoint(with: before), "\(left), before \(before)")
      for one in running { kill(one.process.processIdentifier, SIGKILL) }
      for one in running { one.process.waitUntilExit() }
    }
    try #require(try parts().count == 5)
    try write("text", to: "file")
    // This process swept the folder at its first file in it, and does so once.
    #expect(try generate(["--output", "p.png"]).status == 0)
    #expect(try scratch.files() == ["file", "p.png"])
  }

  @Test func whatALivingRunWritesIsNotSwept() throws {
    let living = scratch.url(".langevin-1-2.part")
    let dead = scratch.url(".langevin-1-3.part")
    let other = scratch.url(".langevin-notes")
    for url in [living, dead, other] { try Data("x".utf8).write(to: url) }
    let descriptor = open(living.path, O_WRONLY)
    defer { close(descriptor) }
    try #require(descriptor >= 0 && flock(descriptor, LOCK_EX) == 0)
    #expect(try generate(["--output", "p.png"]).status == 0)
    #expect(try scratch.files() == [living.lastPathComponent, other.lastPathComponent, "p.png"])
  }
}
