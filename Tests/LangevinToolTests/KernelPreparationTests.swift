import Foundation
import Langevin
import Testing

/// What a driver has not compiled yet is compiled first, in processes that a crash may end.
struct KernelPreparationTests {
  private struct Times: Decodable {
    struct Seconds: Decodable { let compile, load, firstStep: Double }
    let seconds: Seconds
  }

  @Test func aModelIsWarmedBeforeItsFirstPicture() throws {
    let scratch = try Scratch()
    let device = try Tool.pocl()
    let environment = [
      "POCL_CACHE_DIR": scratch.url("pocl").path, "XDG_CACHE_HOME": scratch.url("cache").path,
    ]
    func warm(_ arguments: [String]) throws -> Tool.Outcome {
      try Tool.run(["warm"] + arguments, in: scratch.folder, environment: environment)
    }
    let cold = try warm(["--device", device])
    #expect(cold.status == 0 && cold.output.contains(" kernels compiled, "), "\(cold)")
    #expect(cold.errors.contains("compiling kernels for \(device), once: "), "\(cold.errors)")
    let picture = scratch.url("in.png")
    try Picture(width: 64, height: 64, pixels: [UInt8](repeating: 9, count: 64 * 64 * 3)).writePNG(
      to: picture)
    for more in [[], ["--image", picture.path, "--strength", "0.9"]] {
      let outcome = try Tool.run(
        ["generate", "dog", "--device", device, "--steps", "2", "--output", "p.png", "--json"] + more,
        in: scratch.folder, environment: environment)
      #expect(outcome.status == 0 && !outcome.errors.contains("compiling"), "\(outcome.errors)")
      let seconds = try JSONDecoder().decode(Times.self, from: Data(outcome.output.utf8)).seconds
      #expect(seconds.compile < 0.5, "\(seconds)")
    }
    let again = try warm(["--device", device, "--quiet"])
    #expect(again.status == 0 && again.output.contains("everything was compiled already"), "\(again)")
    #expect(again.errors.isEmpty)
    #expect(try warm(["--device", "cpu"]).output.contains("has no kernels to compile"))
    for (arguments, status, words) in [
      (["/missing"], 1, "/missing"), (["--device", "cuda"], 64, "unknown device 'cuda'"),
      (["--device", device, "--width", "63"], 64, "width must be a multiple"),
      (["--device", device, "--batch", "0"], 64, "--batch must be 1 to 10000, got 0"),
    ] {
      let outcome = try warm(arguments)
      #expect(outcome.status == Int32(status) && outcome.errorLines.count == 1, "\(outcome)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
  }

  /// Damages every compiled kernel in PoCL's cache.
  private func damage(_ folder: URL, _ change: (Data) -> Data) throws -> Int {
    var count = 0
    let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
    for case let file as URL in try #require(files) where file.pathExtension == "so" {
      try change(Data(contentsOf: file)).write(to: file)
      count += 1
    }
    return count
  }

  @Test func kernelsAreCompiledOnceAndADamagedCacheOfPoCLCostsNoPicture() throws {
    let scratch = try Scratch()
    let cache = scratch.url("pocl")
    let device = try Tool.pocl()
    func generate(_ name: String) throws -> (lines: [String], seconds: Times.Seconds, picture: Data) {
      let outcome = try Tool.run(
        [
          "generate", "grinning face", "--seed", "1", "--steps", "2", "--device", device, "--output", name,
          "--json",
        ], in: scratch.folder,
        environment: ["POCL_CACHE_DIR": cache.path, "XDG_CACHE_HOME": scratch.url("cache").path])
      #expect(outcome.status == 0, "\(outcome.errors)")
      let times = try JSONDecoder().decode(Times.self, from: Data(outcome.output.utf8))
      return (outcome.errorLines, times.seconds, try Data(contentsOf: scratch.url(name)))
    }
    let cold = try generate("cold.png")
    #expect(cold.lines.contains { $0.hasPrefix("compiling kernels for \(device), once: ") })
    #expect(cold.lines.allSatisfy { !$0.contains("warning") }, "\(cold.lines)")
    // Nothing is left to compile on the way.
    #expect(cold.seconds.compile > cold.seconds.load + cold.seconds.firstStep)
    let warm = try generate("warm.png")
    #expect(warm.lines.allSatisfy { !$0.contains("compiling") && !$0.contains("warning") }, "\(warm.lines)")
    #expect(warm.picture == cold.picture)

    for (name, change) in [("short.png", { $0.prefix($0.count / 2) }), ("empty.png", { _ in Data() })]
      as [(String, (Data) -> Data)]
    {
      #expect(try damage(cache, change) > 10)
      let damaged = try generate(name)
      let warning = try #require(damaged.lines.first { $0.contains("warning") })
      #expect(warning.contains(cache.path) && warning.contains("run: rm -r \(cache.path)"), "\(warning)")
      #expect(damaged.picture == cold.picture)
    }
    try FileManager.default.removeItem(at: cache)
    #expect(try generate("mended.png").lines.allSatisfy { !$0.contains("warning") })
  }
}
