import Foundation
import LangevinJSON

/// The merges of CLIP's vocabulary, for single-file checkpoints, which carry no tokenizer.
public enum ClipMerges {
  /// One pair per line, after a `#version` line; 48,894 pairs. See `Resources/NOTICE.md`.
  ///
  /// Throws `CheckpointError.missingFile` where the executable was moved without the package's resources, and
  /// `.unreadable`.
  public static var text: String {
    get throws {
      let url = try PackageResource.url("clip-merges.txt")
      return String(decoding: try CheckpointError.reading(url, RegularFile.contents(path:)), as: UTF8.self)
    }
  }
}
