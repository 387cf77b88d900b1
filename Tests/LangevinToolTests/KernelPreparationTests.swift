import Foundation
import Testing

/// What a driver has not compiled yet is compiled first, in processes that a crash may end.
struct KernelPreparationTests {
  private struct Times: Decodable {
    struct Seconds: Decodable { let compile, load, firstStep: Double }
    let seconds: Seconds
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
