import LangevinTensor

/// The law of weights: what a backend packed comes back from it, bit by bit.
extension Validator {
  /// What the law is called in tables and reports, beside the operations.
  public static let packing = "pack"

  /// Packs and unpacks weights of odd extents and of even ones, linear ones and of 3x3 taps, in each storage.
  func checkPacking(on subject: Subject, each: (CaseResult) -> Void) {
    for dtype in dtypes {
      for columns in [1, 31, 32, 33, 100] {
        for (taps, channels) in [(1, 7), (9, 7), (1, 8), (9, 6), (4, 3)] {
          each(packing(WeightShape(taps: taps, channels: channels, columns: columns), dtype, subject))
        }
      }
    }
  }

  private func packing(_ shape: WeightShape, _ dtype: DType, _ subject: Subject) -> CaseResult {
    let spec = TensorSpec([shape.columns, shape.channels, shape.taps], dtype)
    let output = TensorSpec([shape.rows, shape.columns], dtype)
    var result = CaseResult(
      name: "pack \(shape.taps) taps of \(shape.channels) channels, \(shape.columns) columns",
      operation: Validator.packing, dtype: dtype, inputs: [spec], output: output, models: [], outcome: .passed
    )
    let start = ContinuousClock.now
    do {
      let source = Operand(spec, .normal, seed: seed)
      let tensor = try source.bytes.withUnsafeBytes { try Tensor(bytes: $0, spec, on: subject.device) }
      let weight = try Weight(convolution: tensor)
      let rows = try Operand(output, bytes: weight.unpacked().withBytes { [UInt8]($0) })
      if let element = (0..<output.shape.count).first(where: { element in
        let (row, column) = (element / shape.columns, element % shape.columns)
        let (tap, channel) = (row / shape.channels, row % shape.channels)
        return rows[element] != source[(column * shape.channels + channel) * shape.taps + tap]
      }) {
        result.faults = [.failed("element \(output.shape.index(of: element)) comes back otherwise")]
      } else if try weight.checkpointTensor().withBytes({ [UInt8]($0) }) != source.bytes {
        result.faults = [.failed("the checkpoint's form comes back otherwise")]
      }
    } catch {
      result.faults = [.failed("\(error)")]
    }
    result.seconds = (ContinuousClock.now - start) / .seconds(1)
    if !result.faults.isEmpty { result.outcome = .failed }
    return result
  }
}
