import Foundation
import LangevinJSON

extension Checkpoint {
  /// Finds the model that a user named: a path, or `org/name` of the Hugging Face cache on disk.
  ///
  /// A path that exists comes first. Nothing is fetched. Throws `HubError` for a name whose model the cache lacks
  /// or has only in part; of a path that does not exist, opening it will say so.
  public static func locate(
    _ model: String, environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> URL {
    guard !FileManager.default.fileExists(atPath: model), HubCache.isName(model) else {
      return URL(fileURLWithPath: model)
    }
    return try HubCache.find(model, environment: environment)
  }

  /// What to call a model: `org/name` of one in the Hugging Face cache, else the name of its folder, or of its
  /// file without `.safetensors` or `.gguf`.
  public static func name(of model: URL) -> String {
    HubCache.name(of: model)
      ?? (["safetensors", "gguf"].contains(model.pathExtension) ? model.deletingPathExtension() : model)
      .lastPathComponent
  }
}

/// The folder in which `hf download` keeps models: `models--org--name/refs/main` holds a revision, and
/// `models--org--name/snapshots/<revision>` links to that revision's files.
enum HubCache {
  /// Nil without a home.
  static func folder(_ environment: [String: String]) -> URL? {
    func variable(_ name: String) -> URL? {
      guard let path = environment[name], !path.isEmpty else { return nil }
      return URL(fileURLWithPath: NSString(string: path).expandingTildeInPath)
    }
    if let hub = variable("HF_HUB_CACHE") { return hub }
    if let home = variable("HF_HOME") { return home.appendingPathComponent("hub") }
    let caches = variable("XDG_CACHE_HOME") ?? variable("HOME")?.appendingPathComponent(".cache")
    return caches?.appendingPathComponent("huggingface/hub")
  }

  /// Whether a text can be `org/name`, and not the path of a file.
  static func isName(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    return parts.count == 2 && ![".safetensors", ".ckpt"].contains { text.hasSuffix($0) }
      && parts.allSatisfy { part in
        part.first.map { $0.isASCII && ($0.isLetter || $0.isNumber) } == true
          && part.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
      }
  }

  /// The snapshot of a model's main revision. Throws `HubError`.
  static func find(_ name: String, environment: [String: String]) throws -> URL {
    guard let cache = folder(environment) else { throw HubError.notDownloaded(name: name, cache: nil) }
    let model = cache.appendingPathComponent("models--" + name.replacing("/", with: "--"))
    guard FileManager.default.fileExists(atPath: model.path) else {
      throw HubError.notDownloaded(name: name, cache: cache.path)
    }
    let refs = model.appendingPathComponent("refs")
    guard let text = try? String(contentsOf: refs.appendingPathComponent("main"), encoding: .utf8) else {
      throw HubError.noMainRevision(name: name, found: entries(refs))
    }
    let revision = text.trimmingCharacters(in: .whitespacesAndNewlines)
    let snapshot = model.appendingPathComponent("snapshots").appendingPathComponent(revision)
    guard !revision.isEmpty, !revision.contains("/"), !entries(snapshot).isEmpty else {
      throw HubError.incomplete(name: name, missing: ["every file"])
    }
    let missing = brokenLinks(snapshot) + lacking(snapshot)
    guard missing.isEmpty else { throw HubError.incomplete(name: name, missing: missing) }
    let files = entries(snapshot)
    guard files.contains("model_index.json") || files.contains("config.json") else {
      throw HubError.noFolderLayout(
        name: name, files: files.filter { $0.hasSuffix(".safetensors") }.map { snapshot.path + "/" + $0 })
    }
    return snapshot
  }

  /// `org/name` of a snapshot's folder; nil for another.
  static func name(of url: URL) -> String? {
    let parts = url.standardizedFileURL.pathComponents.suffix(3)
    guard parts.count == 3, let folder = parts.first, folder.hasPrefix("models--"),
      parts.dropFirst().first == "snapshots"
    else { return nil }
    let name = String(folder.dropFirst("models--".count)).replacing("--", with: "/", maxReplacements: 1)
    return isName(name) ? name : nil
  }

  // MARK: What is missing

  /// Sorted names in a folder; none where there is no such folder.
  private static func entries(_ folder: URL) -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: folder.path))?.sorted() ?? []
  }

  /// Files of which only the link is left.
  private static func brokenLinks(_ folder: URL) -> [String] {
    let names = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
    return names.sorted().filter {
      !FileManager.default.fileExists(atPath: folder.appendingPathComponent($0).path)
    }
  }

  /// What the components of model_index.json need and have not.
  private static func lacking(_ folder: URL) -> [String] {
    guard case .object(let members)? = try? JSONFile.read(folder.appendingPathComponent("model_index.json"))
    else { return [] }
    let pipeline = members.first { $0.key == "_class_name" }?.value.string.flatMap(Pipelines.type(of:))
    return members.flatMap { member -> [String] in
      guard case .array(let entry) = member.value, entry.count == 2, entry[1].string != nil,
        pipeline.map({ type in type.components.contains { $0.name == member.key } }) ?? true
      else { return [] }
      return lacking(of: folder.appendingPathComponent(member.key)).map { "\(member.key)/\($0)" }
    }
  }

  private static func lacking(of component: URL) -> [String] {
    let name = component.lastPathComponent
    let files = entries(component)
    if name.hasPrefix("scheduler") {
      return files.contains("scheduler_config.json") ? [] : ["scheduler_config.json"]
    }
    if name.hasPrefix("tokenizer") { return files.isEmpty ? ["tokenizer.json"] : [] }
    if name == "feature_extractor" {
      return files.contains("preprocessor_config.json") ? [] : ["preprocessor_config.json"]
    }
    return (files.contains("config.json") ? [] : ["config.json"]) + lackingWeights(of: component, files)
  }

  /// None where one file holds all weights, or all files of an index are there.
  private static func lackingWeights(of component: URL, _ files: [String]) -> [String] {
    let shards = files.filter { $0.contains(".safetensors.index") && $0.hasSuffix(".json") }.map { index in
      guard case .object(let map)? = try? JSONFile.read(component.appendingPathComponent(index))["weight_map"]
      else { return Set<String>() }
      return Set(map.compactMap { $0.value.string })
    }
    let weights = files.filter { $0.hasSuffix(".safetensors") || $0.hasSuffix(".bin") }
    if !Set(weights).subtracting(shards.joined()).isEmpty { return [] }
    let missing = shards.map { $0.subtracting(weights).sorted() }
    return missing.min { $0.count < $1.count } ?? ["*.safetensors"]
  }
}

/// Why a model of the Hugging Face cache cannot be used.
public enum HubError: Error, Sendable, Equatable, CustomStringConvertible {
  /// `cache` is the folder that was searched; nil where no variable of the environment names one.
  case notDownloaded(name: String, cache: String?)
  /// Other revisions may be there.
  case noMainRevision(name: String, found: [String])
  /// Paths within the model's folder.
  case incomplete(name: String, missing: [String])
  /// It has no model_index.json; `files` are paths of single-file checkpoints.
  case noFolderLayout(name: String, files: [String])

  /// One line with the command that helps.
  public var description: String {
    switch self {
    case .notDownloaded(let name, let cache):
      "\(name): no such file, and not in the Hugging Face cache"
        + (cache.map { " (\($0))" } ?? "") + "; get it with: hf download \(name)"
    case .noMainRevision(let name, let found):
      "\(name): the Hugging Face cache has "
        + (found.isEmpty ? "no revision of it" : "only the revisions \(found.joined(separator: ", "))")
        + "; get the main one with: hf download \(name)"
    case .incomplete(let name, let missing):
      "\(name): the Hugging Face cache has it only in part; missing: "
        + missing.prefix(5).joined(separator: ", ")
        + (missing.count > 5 ? " and \(missing.count - 5) more" : "")
        + "; get the rest with: hf download \(name)"
    case .noFolderLayout(let name, let files):
      "\(name): it is no diffusers folder: it has no model_index.json"
        + (files.isEmpty ? "" : "; of its files --model takes: \(files.joined(separator: ", "))")
    }
  }
}
