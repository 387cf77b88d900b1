/// What one check of `langevin doctor` found.
public struct Finding: Sendable, Codable, Hashable {
  /// How bad it is.
  public enum State: String, Sendable, Codable, Hashable {
    /// All is well, and there is nothing to do.
    case ok
    /// It works, but less well than it could.
    case warning
    /// A device, a driver or the CPU backend cannot be used.
    case problem
  }

  /// What was looked at, in a word or two.
  public let check: String
  /// How bad it is.
  public let state: State
  /// What was found, in one line.
  public let message: String
  /// The command that mends it; nil where there is nothing to mend, or no command that would.
  public let command: String?

  /// Nothing to do.
  public static func ok(_ check: String, _ message: String) -> Finding {
    Finding(check: check, state: .ok, message: message, command: nil)
  }

  /// In one line, whatever `message` is.
  public static func warning(_ check: String, _ message: String, _ command: String?) -> Finding {
    Finding(check: check, state: .warning, message: oneLine(message), command: command)
  }

  /// In one line, whatever `message` is.
  public static func problem(_ check: String, _ message: String, _ command: String?) -> Finding {
    Finding(check: check, state: .problem, message: oneLine(message), command: command)
  }

  /// Compilers' logs have many lines.
  private static func oneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).joined(separator: " ")
  }
}

/// What is wrong on a machine.
public struct Diagnosis: Sendable, Codable {
  /// What was found, in the order of the examination.
  public let findings: [Finding]
  /// Devices that ran their probe, without the CPU backend.
  public let usableDevices: Int

  /// Of these findings.
  public init(findings: [Finding], usableDevices: Int) {
    (self.findings, self.usableDevices) = (findings, usableDevices)
  }
}
