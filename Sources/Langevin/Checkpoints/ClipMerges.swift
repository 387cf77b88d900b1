import Foundation

/// The merges of CLIP's vocabulary, for single-file checkpoints, which carry no tokenizer.
public enum ClipMerges {
  /// One pair per line, after a `#version` line; 48,894 pairs. See `Resources/NOTICE.md`.
  public static let text: String = {
    guard
      let url = Bundle.module.url(
        forResource: "clip-merges", withExtension: "txt", subdirectory: "Resources"),
      let data = try? Data(contentsOf: url)
    else { preconditionFailure("the resource clip-merges.txt is missing from the package's bundle") }
    return String(decoding: data, as: UTF8.self)
  }()
}
