import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import Synchronization
import Testing

/// Networks that stay loaded from one run to the next.
struct KeptNetworksTests {
  private func pipeline(on backend: any Backend = CPUBackend()) throws -> any Pipeline {
    try Pipelines.open(Checkpoint.open(DefaultModel.url), on: Device(backend))
  }

  private func draw(_ pipeline: any Pipeline, _ request: GenerationRequest, _ kept: KeptNetworks?) throws -> (
    Picture, loaded: [String]
  ) {
    var (pictures, loaded): ([Picture], [String]) = ([], [])
    try pipeline.stream(request, keeping: kept) { event in
      switch event {
      case .loading(let name): loaded.append(name)
      case .finished(let clip, _, _): pictures.append(clip.picture)
      default: break
      }
    }
    return (try #require(pictures.first), loaded)
  }

  @Test func `the second run loads nothing and draws what a fresh one draws`() throws {
    let pipeline = try pipeline()
    let kept = KeptNetworks()
    var first = GenerationRequest(prompt: "red apple")
    (first.steps, first.seed) = (2, 1)
    var second = GenerationRequest(prompt: "blue heart")
    (second.steps, second.seed) = (2, 2)
    #expect(try draw(pipeline, first, kept).loaded == ["text encoder", "unet", "autoencoder"])
    #expect(kept.names == ["autoencoder", "text encoder", "unet"])
    let again = try draw(pipeline, second, kept)
    #expect(again.loaded == [])
    #expect(try again.0 == draw(pipeline, second, nil).0)
  }

  @Test func `what was kept for prompts is good for pictures too`() throws {
    let pipeline = try pipeline()
    let kept = KeptNetworks()
    var plain = GenerationRequest(prompt: "red apple")
    plain.steps = 2
    var varied = plain
    let apple = try draw(pipeline, plain, kept).0
    (varied.images, varied.strength) = ([apple], 1)
    let again = try draw(pipeline, varied, kept)
    #expect(again.loaded == [])
    #expect(try again.0 == draw(pipeline, varied, nil).0)
  }

  @Test func `what a network leaves is given back before the next is loaded`() throws {
    let backend = ReleaseCounter()
    let pipeline = try pipeline(on: backend)
    let kept = KeptNetworks()
    var request = GenerationRequest(prompt: "red apple")
    request.steps = 1
    _ = try draw(pipeline, request, nil)
    #expect(backend.releases == 0, "little is kept")
    backend.keeps(1 << 30)
    #expect(try draw(pipeline, request, kept).loaded.count == backend.releases)
    #expect(backend.releases == 3)
    _ = try draw(pipeline, request, kept)
    #expect(backend.releases == 3)
    _ = try draw(pipeline, request, nil)
    #expect(backend.releases == 6)
  }
}

/// Counts how often what is kept is given back.
private final class ReleaseCounter: ForwardingBackend {
  let base: any Backend = CPUBackend()
  private let state = Mutex((releases: 0, cached: 0))
  var releases: Int { state.withLock { $0.releases } }
  var memory: MemoryUse { MemoryUse(cached: state.withLock { $0.cached }, limit: base.memory.limit) }

  func keeps(_ byteCount: Int) { state.withLock { $0.cached = byteCount } }

  func releaseCachedMemory() {
    state.withLock { $0.releases += 1 }
    base.releaseCachedMemory()
    #expect(base.memory.cached == 0)
  }
}
