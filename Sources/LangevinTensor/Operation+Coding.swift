/// A number that keeps infinity and NaN in formats which have no such numbers, JSON above all: they are written
/// as the strings `inf`, `-inf` and `nan`.
@propertyWrapper public struct CodableNumber<Value>: Sendable, Hashable, Codable
where Value: BinaryFloatingPoint & Codable & LosslessStringConvertible & Sendable {
  /// The number.
  public var wrappedValue: Value

  /// Wraps a number.
  public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }

  /// Throws `DecodingError` for anything but a number and the three strings.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Value.self) {
      wrappedValue = number
      return
    }
    let text = try container.decode(String.self)
    guard ["inf", "-inf", "nan"].contains(text), let number = Value(text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not a number")
    }
    wrappedValue = number
  }

  /// As a number where it is finite.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if wrappedValue.isFinite {
      try container.encode(wrappedValue)
    } else {
      try container.encode(wrappedValue.isNaN ? "nan" : wrappedValue < 0 ? "-inf" : "inf")
    }
  }
}

/// Of the operations' parameters.
public typealias CodableFloat = CodableNumber<Float>

/// An object with the operation's kind as its only key, and its parameters below:
/// `{"group_norm": {"groups": 32, "epsilon": 1e-05, "activation": "silu"}}`, `{"softmax": {}}`.
extension Operation: Codable {
  private struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(_ kind: Kind) { stringValue = kind.rawValue }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  private struct Empty: Codable {}
  private struct Bounds: Codable {
    @CodableFloat var lower: Float
    @CodableFloat var upper: Float
  }
  private struct Line: Codable {
    @CodableFloat var scale: Float
    @CodableFloat var offset: Float
  }
  private struct Epsilon: Codable { @CodableFloat var epsilon: Float }
  private struct Axis: Codable { let axis: Int }
  private struct Factor: Codable { let factor: Int }
  private struct Constant: Codable {
    @CodableFloat var value: Float
    let spec: TensorSpec
  }

  /// An object with one key, the kind, over the parameters.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    func put(_ value: some Encodable) throws { try container.encode(value, forKey: Key(kind)) }
    switch self {
    case .matmul(let matmul): try put(matmul)
    case .conv2d(let conv): try put(conv)
    case .attention(let attention): try put(attention)
    case .groupNorm(let norm): try put(norm)
    case .layerNorm(let norm): try put(norm)
    case .rmsNorm(let epsilon): try put(Epsilon(epsilon: epsilon))
    case .rotary(let rotary): try put(rotary)
    case .unary(let function): try put(function)
    case .affine(let scale, let offset): try put(Line(scale: scale, offset: offset))
    case .clamp(let lower, let upper): try put(Bounds(lower: lower, upper: upper))
    case .binary(let function): try put(function)
    case .linearCombination(let coefficients): try put(coefficients.map { CodableFloat(wrappedValue: $0) })
    case .reduce(let reduce): try put(reduce)
    case .transpose(let permutation): try put(permutation)
    case .broadcast(let shape): try put(shape)
    case .slice(let slice): try put(slice)
    case .concatenate(let axis): try put(Axis(axis: axis))
    case .pad(let pad): try put(pad)
    case .upsampleNearest(let factor): try put(Factor(factor: factor))
    case .cast(let dtype): try put(dtype)
    case .normalNoise(let noise): try put(noise)
    case .fill(let value, let spec): try put(Constant(value: value, spec: spec))
    case .arrangeWeight(let arrangement): try put(arrangement)
    case .softmax, .geglu, .embedding, .nonFiniteCount: try put(Empty())
    }
  }

  /// The parameters under the one key that names the kind. Throws `DecodingError`.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    guard container.allKeys.count == 1, let kind = Kind(rawValue: container.allKeys[0].stringValue) else {
      throw DecodingError.dataCorrupted(
        DecodingError.Context(
          codingPath: decoder.codingPath,
          debugDescription: "an operation has its kind as the only key, not "
            + container.allKeys.map(\.stringValue).sorted().joined(separator: ", ")))
    }
    func take<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
      try container.decode(Value.self, forKey: Key(kind))
    }
    switch kind {
    case .matmul: self = .matmul(try take())
    case .conv2d: self = .conv2d(try take())
    case .attention: self = .attention(try take())
    case .groupNorm: self = .groupNorm(try take())
    case .layerNorm: self = .layerNorm(try take())
    case .rmsNorm: self = .rmsNorm(epsilon: try take(Epsilon.self).epsilon)
    case .rotary: self = .rotary(try take())
    case .softmax: self = .softmax
    case .unary: self = .unary(try take())
    case .affine:
      let line = try take(Line.self)
      self = .affine(scale: line.scale, offset: line.offset)
    case .clamp:
      let bounds = try take(Bounds.self)
      self = .clamp(lower: bounds.lower, upper: bounds.upper)
    case .geglu: self = .geglu
    case .binary: self = .binary(try take())
    case .linearCombination: self = .linearCombination(try take([CodableFloat].self).map(\.wrappedValue))
    case .reduce: self = .reduce(try take())
    case .embedding: self = .embedding
    case .transpose: self = .transpose(try take())
    case .broadcast: self = .broadcast(try take())
    case .slice: self = .slice(try take())
    case .concatenate: self = .concatenate(axis: try take(Axis.self).axis)
    case .pad: self = .pad(try take())
    case .upsampleNearest: self = .upsampleNearest(factor: try take(Factor.self).factor)
    case .cast: self = .cast(try take())
    case .normalNoise: self = .normalNoise(try take())
    case .fill:
      let constant = try take(Constant.self)
      self = .fill(constant.value, constant.spec)
    case .arrangeWeight: self = .arrangeWeight(try take())
    case .nonFiniteCount: self = .nonFiniteCount
    }
  }
}

/// The list of extents.
extension Shape: Codable {
  /// From the list of extents.
  public init(from decoder: any Decoder) throws {
    self.init(try decoder.singleValueContainer().decode([Int].self))
  }

  /// As the list of extents.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(dimensions)
  }
}
