/// What an operation must do at least, whatever kernel does it: the arithmetic of its formula, each input read
/// once and the output written once. Set against time and a device's ceilings it gives the roofline.
public struct Work: Sendable, Hashable, Codable {
  /// Floating-point operations: a multiply-add counts 2, a comparison, a division or a function (exp, erf) 1.
  public var flops: Double
  /// Bytes of the inputs; of a table or a sliced tensor only what is looked at.
  public var bytesRead: Double
  /// Bytes of the output.
  public var bytesWritten: Double

  /// Bytes in both directions.
  public var bytes: Double { bytesRead + bytesWritten }
  /// Operations a byte; infinite where nothing is moved.
  public var intensity: Double { bytes > 0 ? flops / bytes : .infinity }

  /// Work of these amounts.
  public init(flops: Double = 0, bytesRead: Double = 0, bytesWritten: Double = 0) {
    self.flops = flops
    self.bytesRead = bytesRead
    self.bytesWritten = bytesWritten
  }

  /// That much arithmetic, with every input read and the output written once.
  init(flops: Double, _ inputs: [TensorSpec], _ output: TensorSpec) {
    self.init(
      flops: flops, bytesRead: Double(inputs.reduce(0) { $0 + $1.byteCount }),
      bytesWritten: Double(output.byteCount))
  }

  /// So many operations for each element of the output, with every input read and the output written once.
  init(perElement flops: Int, _ inputs: [TensorSpec], _ output: TensorSpec) {
    self.init(flops: Double(flops) * Double(output.shape.count), inputs, output)
  }

  /// The work of both.
  public static func + (a: Work, b: Work) -> Work {
    Work(
      flops: a.flops + b.flops, bytesRead: a.bytesRead + b.bytesRead,
      bytesWritten: a.bytesWritten + b.bytesWritten)
  }

  /// Adds the work of another.
  public static func += (a: inout Work, b: Work) { a = a + b }
}
