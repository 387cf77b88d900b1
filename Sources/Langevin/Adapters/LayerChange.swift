import LangevinNN
import LangevinTensor

/// What a file changes of one layer's weight W: a product of small matrices, D, is added, and the sum's norms
/// may be given.
struct LayerChange: Sendable {
  /// How D is made of its factors.
  enum Form: Sendable {
    /// LoRA (arXiv:2106.09685, eq. 3); with a core LyCORIS' LoCon (arXiv:2309.14859).
    case product(FactoredMatrix)
    /// LoHa, element by element (arXiv:2108.06098, proposition 1; with cores proposition 3).
    case hadamard(FactoredMatrix, FactoredMatrix)
    /// LoKr, Kronecker's product (arXiv:2309.14859, section 3.2).
    case kronecker(FactoredMatrix, FactoredMatrix)

    var matrices: [FactoredMatrix] {
      switch self {
      case .product(let matrix): [matrix]
      case .hadamard(let a, let b), .kronecker(let a, let b): [a, b]
      }
    }

    /// D's shape. Throws `AdapterError.factors` where the factors do not fit each other.
    func extents(in file: SafetensorsFile) throws -> [Int] {
      switch self {
      case .product(let matrix): return try matrix.extents(in: file)
      case .hadamard(let a, let b):
        let extents = try a.extents(in: file)
        guard try extents == b.extents(in: file) else {
          throw FactoredMatrix.fault(a.names + b.names, in: file)
        }
        return extents
      case .kronecker(let a, let b):
        let (small, large) = (try a.extents(in: file), try b.extents(in: file))
        guard small.count == 2 else { throw FactoredMatrix.fault(a.names, in: file) }
        return [small[0] * large[0], small[1] * large[1]] + large.dropFirst(2)
      }
    }
  }

  /// DoRA: the norms m of the changed weight, m (W + D) / |W + D| (arXiv:2402.09353, eq. 5).
  struct Norms: Sendable {
    let name: String
    /// LyCORIS writes `dora_scale`, which A1111's and ComfyUI's scales interpolate: W + scale (m V / |V| - W)
    /// with V = W + D. PEFT's scale is D's alone.
    let isInterpolated: Bool
  }

  let target: LoRAKey.Target
  let form: Form
  let norms: Norms?
  /// The factors' common extent; nil where all matrices are whole.
  let rank: Int?
  /// Divided by the rank it is D's scale; D's scale where there is no rank.
  let alpha: Float
  let file: SafetensorsFile

  /// D's scale.
  var scale: Float { alpha / Float(rank ?? 1) }

  /// `LoRA`, `LoHa`, …
  var kind: String {
    let name =
      switch form {
      case .product(.tucker): "LoCon"
      case .product: "LoRA"
      case .hadamard: "LoHa"
      case .kronecker: "LoKr"
      }
    return norms == nil ? name : "DoRA of \(name)"
  }

  /// Every tensor that it reads but for its alpha.
  var names: [String] { form.matrices.flatMap(\.names) + [norms?.name].compactMap { $0 } }

  /// Of the tensors of one layer.
  ///
  /// Throws `AdapterError.unpaired` where some are missing, `.factors` where they do not fit each other,
  /// `WeightError.unsupportedDType` and `CheckpointError.malformed`.
  init(
    _ target: LoRAKey.Target, _ parts: [LoRAKey.Part: String], of file: SafetensorsFile,
    _ metadata: LoRAMetadata
  ) throws {
    func fail(_ reason: String) -> CheckpointError { .malformed(path: file.url.path, reason: reason) }
    let first = parts.values.min() ?? ""
    let form = try Form(parts, path: file.url.path)
    var norms: Norms?
    if let name = parts[.norms] { norms = Norms(name: name, isInterpolated: false) }
    if let name = parts[.interpolatedNorms] { norms = Norms(name: name, isInterpolated: true) }
    if norms == nil, metadata.isDoRA(target) {
      throw AdapterError.unpaired(
        path: file.url.path, name: first, missing: "\(LoRAKey.Part.norms.rawValue).weight")
    }
    (self.target, self.file, self.form, self.norms) = (target, file, form, norms)
    let rank = form.matrices.lazy.compactMap { $0.rank(in: file) }.first
    self.rank = rank
    // Of whole matrices LyCORIS writes an alpha without a meaning.
    let said = try parts[.alpha].map { rank == nil ? 1 : try file.number($0) }
    alpha = said ?? metadata.alpha(of: target, rank: rank)
    guard alpha.isFinite else { throw fail("the alpha of '\(first)' is \(alpha)") }

    for name in names {
      guard let spec = file.spec(of: name), spec.dtype.isFloatingPoint else {
        throw WeightError.unsupportedDType(name: name, source: file.description)
      }
      guard spec.shape.count > 0 else { throw fail("'\(name)' has no elements") }
    }
    _ = try form.extents(in: file)
    let read = Set(names + [parts[.alpha]].compactMap { $0 })
    if let other = parts.values.filter({ !read.contains($0) }).min() {
      throw fail("'\(other)' has no use beside '\(names[0])'")
    }
  }

  // MARK: At a layer

  /// Throws `AdapterError.wrongShape` where this is no change of a layer's weight: [outputs, inputs] or
  /// [outputs, inputs, height, width]; extents of 1 behind those are left out or not, and the axes behind the
  /// first may be one.
  func check(_ weight: Shape, of layer: String) throws {
    let made = try form.extents(in: file)
    let isFlat = made.count == 2 && made[0] == weight[0] && made[1] * weight[0] == weight.count
    guard isFlat || Self.trimmed(made) == Self.trimmed(weight.dimensions) else {
      throw AdapterError.wrongShape(
        path: file.url.path, layer: layer, name: names[0], got: Shape(made), needed: weight)
    }
    guard let norms else { return }
    guard normAxis(of: weight) != nil else {
      throw AdapterError.wrongShape(
        path: file.url.path, layer: layer, name: norms.name, got: file.shape(of: norms.name) ?? [],
        needed: [weight[0], 1])
    }
  }

  private static func trimmed(_ extents: [Int]) -> [Int] {
    Array(extents.prefix(2) + extents.dropFirst(2).reversed().drop { $0 == 1 }.reversed())
  }

  /// The weight's axis along which there is a norm each: outputs, or LyCORIS' inputs, [1, inputs, 1, 1].
  private func normAxis(of weight: Shape) -> Int? {
    guard let norms, let shape = file.shape(of: norms.name) else { return nil }
    // PEFT's for convolutions are [1, outputs, 1, 1].
    let isOfInputs = norms.isInterpolated && shape.rank > 1 && shape[0] == 1 && weight[0] > 1
    if isOfInputs { return shape.count == weight[1] && shape[1] == weight[1] ? 1 : nil }
    return shape.count == weight[0] ? 0 : nil
  }

  /// `sum` and what this changes of a weight, `strength` times as strong. Both matrices are float32 [outputs,
  /// rest], and `shape` is the weight's own.
  func added(to sum: Tensor, of weight: Tensor, shape: Shape, strength: Float) throws -> Tensor {
    guard let norms, let axis = normAxis(of: shape) else {
      return try product(plus: sum, scale: scale * strength)
    }
    let direction = try product(plus: weight, scale: norms.isInterpolated ? scale : scale * strength)
    // [outputs, inputs, taps], with norms over all but one axis.
    let (outputs, inputs) = (shape[0], shape[1])
    let parts = try direction.reshaped([outputs, inputs, weight.shape[1] / inputs])
    let own = try parts.map(.square).reduced(.sum, axes: axis == 0 ? [1, 2] : [0, 2]).map(.sqrt)
    let wanted = try file.load(norms.name, on: sum.device).cast(to: .float32).reshaped(own.shape)
    // A norm of zero stays finite.
    let changed = try (parts * (wanted / (own + Float.ulpOfOne))).reshaped(weight.shape)
    let share = norms.isInterpolated ? strength : 1
    return try Tensor.combination([(1, sum), (share, changed), (-share, weight)])
  }

  /// The inner extent of the two small matrices whose product it adds, whatever the weight is; nil where it
  /// adds something else.
  var lowRank: Int? {
    guard case .product(let matrix) = form, norms == nil else { return nil }
    return matrix.innerExtent(in: file)
  }

  /// `up` [outputs, rank] and `down` [rank, inputs...] of a weight's shape, whose product is what this adds to it,
  /// `strength` times as strong. Nil where it is not of low rank.
  func lowRank(shape: Shape, strength: Float, on device: Device) throws -> (up: Tensor, down: Tensor)? {
    guard lowRank != nil, case .product(let matrix) = form,
      let parts = try matrix.lowRank(in: file, on: device)
    else { return nil }
    return (
      try parts.up.affine(scale: scale * strength, offset: 0),
      try parts.down.reshaped(shape.replacing(axis: 0, with: parts.down.shape[0]))
    )
  }

  /// `base + scale D`.
  private func product(plus base: Tensor, scale: Float) throws -> Tensor {
    let device = base.device
    switch form {
    case .product(.product(let left, let right)):
      let (left, right) = (try file.matrix(left, on: device), try file.matrix(right, on: device))
      return try left.matmul(right, scale: scale, residual: base)
    case .product(let matrix):
      return try Tensor.combination([(1, base), (scale, matrix.value(in: file, on: device))])
    case .hadamard(let a, let b):
      let product = try a.value(in: file, on: device) * b.value(in: file, on: device)
      return try Tensor.combination([(1, base), (scale, product)])
    case .kronecker(let a, let b):
      let (a, b) = (try a.value(in: file, on: device), try b.value(in: file, on: device))
      let (small, large) = (a.shape, b.shape)
      let blocks = try a.reshaped([small[0], 1, small[1], 1]) * b.reshaped([1, large[0], 1, large[1]])
      return try Tensor.combination([(1, base), (scale, blocks.reshaped(base.shape))])
    }
  }
}

extension LayerChange.Form {
  /// Of the tensors of one layer.
  ///
  /// Throws `AdapterError.unpaired` where some are missing, and `CheckpointError.malformed` where they are of
  /// several kinds.
  init(_ parts: [LoRAKey.Part: String], path: String) throws {
    let first = parts.values.min() ?? ""
    let kinds = Set(parts.keys.compactMap(\.kind))
    guard kinds.count < 2 else {
      throw CheckpointError.malformed(
        path: path,
        reason: "'\(first)' and its neighbours are of \(kinds.sorted().joined(separator: " and "))")
    }
    func part(_ part: LoRAKey.Part) throws -> String {
      guard let name = parts[part] else {
        throw AdapterError.unpaired(path: path, name: first, missing: part.rawValue)
      }
      return name
    }
    /// A whole matrix, or factors, maybe with a core.
    func matrix(
      _ left: LoRAKey.Part, _ right: LoRAKey.Part, core: LoRAKey.Part? = nil, whole: LoRAKey.Part? = nil
    ) throws -> FactoredMatrix {
      if let whole, let name = parts[whole] { return .whole(name) }
      let (left, right) = (try part(left), try part(right))
      guard let core, let name = parts[core] else { return .product(left: left, right: right) }
      return .tucker(core: name, left: left, right: right, isUpright: core == .mid)
    }
    switch kinds.first {
    case "LoHa":
      if parts[.hadamardCore1] != nil { _ = try part(.hadamardCore2) }
      if parts[.hadamardCore2] != nil { _ = try part(.hadamardCore1) }
      let a = try matrix(.hadamard1A, .hadamard1B, core: .hadamardCore1)
      let b = try matrix(.hadamard2A, .hadamard2B, core: .hadamardCore2)
      self = .hadamard(a, b)
    case "LoKr":
      let a = try matrix(.kronecker1A, .kronecker1B, whole: .kronecker1)
      let b = try matrix(
        .kronecker2A, .kronecker2B, core: .kroneckerCore2, whole: .kronecker2)
      self = .kronecker(a, b)
    default:
      self = .product(try matrix(.up, .down, core: .mid))
    }
  }
}
