import Foundation
import Testing

@testable import Langevin

/// `--model org/name`, in caches that are made up.
struct HubCacheTests {
  private let folder: URL
  private let name = "some-org/small.model-1"

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("hub-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  private var hub: URL { folder.appendingPathComponent("hub") }
  private var environment: [String: String] { ["HF_HUB_CACHE": hub.path, "HOME": "/nowhere"] }
  private var model: URL { hub.appendingPathComponent("models--some-org--small.model-1") }
  private var snapshot: URL { model.appendingPathComponent("snapshots/0a1b2c") }

  /// The shipped model as the cache has it: files that link to blobs.
  private func download(except missing: [String] = []) throws {
    let manager = FileManager.default
    for name in ["blobs", "refs"] {
      try manager.createDirectory(
        at: model.appendingPathComponent(name), withIntermediateDirectories: true)
    }
    try Data("0a1b2c".utf8).write(to: model.appendingPathComponent("refs/main"))
    let shipped = try DefaultModel.url
    let names = try #require(manager.enumerator(atPath: shipped.path)).compactMap { $0 as? String }
    for (index, name) in names.enumerated() where !missing.contains(name) {
      let source = shipped.appendingPathComponent(name)
      guard try source.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else { continue }
      let link = snapshot.appendingPathComponent(name)
      try manager.createDirectory(at: link.deletingLastPathComponent(), withIntermediateDirectories: true)
      try manager.copyItem(at: source, to: model.appendingPathComponent("blobs/\(index)"))
      let up = String(repeating: "../", count: name.split(separator: "/").count + 1)
      try manager.createSymbolicLink(atPath: link.path, withDestinationPath: "\(up)blobs/\(index)")
    }
  }

  private func clean() { try? FileManager.default.removeItem(at: folder) }

  @Test func aDownloadedModelIsFoundAndOpened() throws {
    defer { clean() }
    try download()
    let url = try Checkpoint.locate(name, environment: environment)
    #expect(url.path == snapshot.path)
    #expect(Checkpoint.name(of: url) == name)
    let checkpoint = try Checkpoint.open(url)
    #expect(checkpoint.pipeline == "StableDiffusionPipeline")
    #expect(try checkpoint.unet.weights.names.isEmpty == false)
  }

  @Test func theCacheIsWhereTheEnvironmentSays() {
    let all = ["HF_HUB_CACHE": "/a", "HF_HOME": "/b", "XDG_CACHE_HOME": "/c", "HOME": "/d"]
    let order = ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"]
    let expected = ["/a", "/b/hub", "/c/huggingface/hub", "/d/.cache/huggingface/hub"]
    for (index, path) in expected.enumerated() {
      let some = all.filter { order[index...].contains($0.key) }
      #expect(HubCache.folder(some)?.path == path)
      #expect(
        HubCache.folder(some.merging([order[max(index - 1, 0)]: index > 0 ? "" : "/a"]) { $1 })?.path == path)
    }
    #expect(HubCache.folder([:]) == nil)
  }

  @Test func aPathThatExistsComesFirst() throws {
    defer { clean() }
    try download()
    let path = folder.path + "/" + name
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    #expect(try Checkpoint.locate(path, environment: environment).path == path)
  }

  @Test(arguments: [
    "/missing", "./model", "a/b/c", "model", "~/model", "some/file.safetensors", "a/", "../x", "a/b c",
  ])
  func whatIsNoNameIsAPath(text: String) throws {
    #expect(try Checkpoint.locate(text, environment: environment) == URL(fileURLWithPath: text))
  }

  @Test func whatIsNotThereHasTheCommandThatGetsIt() throws {
    defer { clean() }
    let error = #expect(throws: HubError.self) { try Checkpoint.locate(name, environment: environment) }
    let line = try #require(error).description
    #expect(line.contains("hf download \(name)") && line.contains(hub.path), "\(line)")
    #expect(!line.contains("\n"))
  }

  @Test func anotherRevisionIsNotTakenForTheMainOne() throws {
    defer { clean() }
    try download()
    let refs = model.appendingPathComponent("refs")
    try FileManager.default.moveItem(
      at: refs.appendingPathComponent("main"), to: refs.appendingPathComponent("fp16"))
    #expect(throws: HubError.noMainRevision(name: name, found: ["fp16"])) {
      try Checkpoint.locate(name, environment: environment)
    }
  }

  @Test(arguments: [
    ("unet/diffusion_pytorch_model.safetensors", "unet/*.safetensors"),
    ("vae/config.json", "vae/config.json"),
    ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json"),
  ])
  func filesThatWereNeverFetchedAreNamed(file: String, missing: String) throws {
    defer { clean() }
    try download(except: [file])
    #expect(throws: HubError.incomplete(name: name, missing: [missing])) {
      try Checkpoint.locate(name, environment: environment)
    }
  }

  @Test func filesWhoseBlobIsGoneAreNamed() throws {
    defer { clean() }
    try download()
    let link = snapshot.appendingPathComponent("vae/diffusion_pytorch_model.safetensors")
    try FileManager.default.removeItem(at: link.resolvingSymlinksInPath())
    #expect(throws: HubError.incomplete(name: name, missing: ["vae/diffusion_pytorch_model.safetensors"])) {
      try Checkpoint.locate(name, environment: environment)
    }
  }

  @Test func shardsAreCounted() throws {
    defer { clean() }
    let whole = "unet/diffusion_pytorch_model.safetensors"
    try download(except: [whole])
    let unet = snapshot.appendingPathComponent("unet")
    let shards = (1...3).map { "diffusion_pytorch_model-0000\($0)-of-00003.safetensors" }
    let index = ["weight_map": ["a": shards[0], "b": shards[1], "c": shards[2], "d": shards[0]]]
    try JSONSerialization.data(withJSONObject: index).write(
      to: unet.appendingPathComponent("diffusion_pytorch_model.safetensors.index.json"))
    try Data().write(to: unet.appendingPathComponent(shards[1]))
    #expect(throws: HubError.incomplete(name: name, missing: ["unet/" + shards[0], "unet/" + shards[2]])) {
      try Checkpoint.locate(name, environment: environment)
    }
    for shard in shards { try Data().write(to: unet.appendingPathComponent(shard)) }
    #expect(try Checkpoint.locate(name, environment: environment).path == snapshot.path)
  }

  @Test func aRepositoryOfSingleFilesIsToldApart() throws {
    defer { clean() }
    try download(except: ["model_index.json"])
    try Data().write(to: snapshot.appendingPathComponent("model-fp16.safetensors"))
    let error = #expect(throws: HubError.self) { try Checkpoint.locate(name, environment: environment) }
    #expect(try #require(error).description.contains(snapshot.path + "/model-fp16.safetensors"))
  }

  @Test func foldersWithPointsKeepTheirNames() {
    #expect(Checkpoint.name(of: URL(fileURLWithPath: "/m/stable-diffusion-v1.5")) == "stable-diffusion-v1.5")
    #expect(Checkpoint.name(of: URL(fileURLWithPath: "/m/v1.5.safetensors")) == "v1.5")
  }
}
