import LangevinTensor

extension UNetConditioning {
  /// The rows of all, one after the other; there is at least one.
  ///
  /// Throws `ModelError.invalidInput` where some have a part that others lack.
  public static func joined(_ all: [UNetConditioning]) throws -> UNetConditioning {
    if all.count == 1 { return all[0] }
    /// Nil where none has the part.
    func parts<Part>(_ name: String, _ path: KeyPath<UNetConditioning, Part?>) throws -> [Part]? {
      let parts = all.compactMap { $0[keyPath: path] }
      guard parts.isEmpty || parts.count == all.count else { throw mismatch(name) }
      return parts.isEmpty ? nil : parts
    }
    return UNetConditioning(
      context: try .concatenated(all.map(\.context), axis: 0),
      contextMask: try parts("context mask", \.contextMask).map { Array($0.joined()) },
      classLabels: try parts("class labels", \.classLabels).map(UNetClassLabels.joined),
      textTime: try parts("pooled text", \.textTime).map { parts in
        UNetTextTime(
          textEmbeds: try .concatenated(parts.map(\.textEmbeds), axis: 0), timeIDs: parts.flatMap(\.timeIDs))
      },
      timestepCondition: try parts("timestep condition", \.timestepCondition).map {
        try .concatenated($0, axis: 0)
      })
  }

  /// Of these images alone. Throws `TensorError` where there are none of these numbers.
  public func rows(_ range: Range<Int>) throws -> UNetConditioning {
    UNetConditioning(
      context: try context.rows(range), contextMask: contextMask.map { Array($0[range]) },
      classLabels: try classLabels?.rows(range),
      textTime: try textTime.map {
        UNetTextTime(textEmbeds: try $0.textEmbeds.rows(range), timeIDs: Array($0.timeIDs[range]))
      }, timestepCondition: try timestepCondition?.rows(range))
  }

  fileprivate static func mismatch(_ name: String) -> ModelError {
    .invalidInput(
      model: UNet2DConditionModel.name, reason: "some images of the batch have no \(name), or of another kind"
    )
  }
}

extension UNetClassLabels {
  fileprivate static func joined(_ all: [UNetClassLabels]) throws -> UNetClassLabels {
    let vectors = all.compactMap { if case .vectors(let vector) = $0 { vector } else { nil } }
    let numbers = all.compactMap { if case .numbers(let numbers) = $0 { numbers } else { nil } }
    guard vectors.isEmpty || numbers.isEmpty else { throw UNetConditioning.mismatch("class labels") }
    return vectors.isEmpty ? .numbers(Array(numbers.joined())) : .vectors(try .concatenated(vectors, axis: 0))
  }

  fileprivate func rows(_ range: Range<Int>) throws -> UNetClassLabels {
    switch self {
    case .numbers(let numbers): .numbers(Array(numbers[range]))
    case .vectors(let vectors): .vectors(try vectors.rows(range))
    }
  }
}
