import Foundation

/// The small model that ships with the package: emoji of 64x64 pixels. See its model card,
/// `Resources/emoji-diffusion/README.md`.
public enum DefaultModel {
  /// The model's folder, in the package's resources beside the executable.
  ///
  /// Throws `CheckpointError.missingFile` where the executable was moved without them.
  public static var url: URL {
    get throws { try PackageResource.url("emoji-diffusion") }
  }
}
