import Foundation

/// What the scripts in Tests/Golden wrote.
public enum Fixtures {
  /// Tests/Golden/Fixtures.
  public static let url = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Golden/Fixtures")
}
