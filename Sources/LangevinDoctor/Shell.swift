import Foundation

/// Commands for the user to run, on Debian and Ubuntu.
public enum Shell {
  /// The command with sudo before it, unless the user is root.
  public static func root(_ command: String) -> String {
    geteuid() == 0 ? command : "sudo \(command)"
  }

  /// As root where the folder that a file lies in cannot be written otherwise.
  public static func privileged(_ command: String, on file: String) -> String {
    let folder = URL(fileURLWithPath: file).deletingLastPathComponent().path
    return access(folder, W_OK) == 0 ? command : root(command)
  }

  /// The user's name, or the variable that has it.
  public static var userName: String {
    getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) } ?? "$USER"
  }
}
