/// What a backend computes on, in words.
public struct BackendIdentity: Sendable, Hashable, Codable {
  /// One line of a table.
  public struct Detail: Sendable, Hashable, Codable {
    /// `driver`, `memory`.
    public var name: String
    /// With its unit.
    public var value: String

    /// A name and a value for people to read.
    public init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
  }

  /// In a few words: the device's own name, or `OpenBLAS, SkylakeX, 2 cores`.
  public var title: String
  /// The title with platform and driver.
  public var summary: String
  /// The driver's version; nil where there is no driver.
  public var driver: String?
  /// The form of its kernels, one of the provider's `kernelForms`; nil where there is only one.
  public var kernels: String?
  /// What else is worth a column in a report, in its order.
  public var details: [Detail]

  /// A backend of this title; the summary is the title where there is no other.
  public init(
    title: String, summary: String? = nil, driver: String? = nil, kernels: String? = nil,
    details: [Detail] = []
  ) {
    (self.title, self.summary) = (title, summary ?? title)
    (self.driver, self.kernels, self.details) = (driver, kernels, details)
  }
}

extension Device {
  /// What its backend computes on.
  public var identity: BackendIdentity { backend.identity }
  /// Its name and what it is: `cpu (OpenBLAS, SkylakeX, 2 cores)`.
  public var label: String { "\(name) (\(identity.title))" }
}
