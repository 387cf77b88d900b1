/// All that is true of an operation on any device. Each family of operations has a file of its own in this folder,
/// and `Operation.definition` leads from a case to what defines it. Backends compute; everything else, from shape
/// inference to validation and profiles, asks here.
public protocol OperationDefinition: Sendable {
  /// Which case of `Operation` this is.
  var operationKind: Operation.Kind { get }
  /// The name in tables and messages: the function's, where one kind stands for several.
  var name: String { get }
  /// The name with what divides quick calls from slow ones, as in `conv2d 3x3 /2`.
  var label: String { get }
  /// What sort of work it is.
  var family: OperationFamily { get }

  /// The operand at a position of the inputs.
  func operand(_ index: Int) -> OperandDefinition
  /// The output's shape and dtype. Throws `TensorError.invalidOperands` with the reason.
  func output(of inputs: OperandSpecs) throws -> TensorSpec
  /// The arithmetic of its formula and the bytes that it must move, for operands that passed shape inference.
  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work
  /// The same value by simpler operations, on the operands' device; nil for a primitive.
  var decomposition: Decomposition? { get }
  /// How a gradient passes from the output to the inputs.
  var gradient: GradientRule { get }

  // What validation derives its tolerances, samples and smaller cases from.

  /// How far float32 arithmetic may be from the exact value.
  func accuracy(of inputs: [TensorSpec]) -> Accuracy
  /// What of the inputs a part of the output depends on.
  var locality: Locality { get }
  /// What a case's shapes are built from.
  func extents(of inputs: [TensorSpec]) -> Extents
  /// This operation without what differs between steps and seeds, for collections of what models dispatch.
  var representative: Operation { get }
}

/// Computes an operation from its inputs by other operations. Throws what these throw.
public typealias Decomposition = @Sendable (_ inputs: [Tensor]) throws -> Tensor

extension OperationDefinition {
  /// The kind's name.
  public var name: String { operationKind.rawValue }
  /// The name.
  public var label: String { name }
}

/// What sort of work an operation is, for the colours and sums of a profile.
public enum OperationFamily: String, Sendable, CaseIterable, Codable {
  case products = "products"
  case attention = "attention"
  case norms = "norms, reductions"
  case elements = "element-wise"
  case movement = "movement"
}

/// One input of an operation.
public struct OperandDefinition: Sendable, Hashable {
  /// Which numbers an operand may have.
  public enum Domain: Sendable, Hashable {
    case any
    /// Greater than zero, away from it.
    case positive
    /// Row numbers of the first input, int32.
    case rows
    /// Whole numbers below this, int32.
    case index(below: Int)
    /// Words of whole blocks, int32.
    case blocks(BlockEncoding)
  }

  /// As the operation's formula calls it.
  public var name: String
  /// Which numbers it may have.
  public var domain: Domain
  /// Whether it is float32 however the others are stored.
  public var isAlwaysFloat32: Bool

  /// By default any numbers, stored as the other operands are.
  public init(_ name: String, domain: Domain = .any, isAlwaysFloat32: Bool = false) {
    (self.name, self.domain, self.isAlwaysFloat32) = (name, domain, isAlwaysFloat32)
  }

  /// The operand of this position, by the names of all; `x` stands for any beyond them.
  static func named(_ names: String..., at index: Int) -> OperandDefinition {
    OperandDefinition(names.indices.contains(index) ? names[index] : "x")
  }
}

/// How far float32 arithmetic may be from the exact value, element by element; u is 2^-24. The rounding of the output
/// to its own dtype comes on top.
public enum Accuracy: Sendable {
  /// Moves, rounds or counts: every bit is determined.
  case exact
  /// So many roundings of the result, each u of it.
  case roundings(Double)
  /// A function of the inputs, the element's index and its exact value gives the absolute error.
  case elements(@Sendable (_ inputs: [[Double]], _ index: Int, _ value: Double) -> Double)
  /// A sum of `terms` products, which `plain` computes without an activation and `squares` from squared inputs;
  /// both are divided by `divisor`.
  case sum(terms: Int, squares: Operation, plain: Operation, divisor: Double)
  /// Differences from the mean of those elements that share statistics.
  case normalized(Statistics)
  /// Weights that sum to 1 along the last axis.
  case softmax
  /// A mean of the values, weighted by a softmax of scores.
  case attention(Attention)
  /// What `normalized` is, differentiated, with sums over all rows at the end.
  case normalizedGradient(Statistics)
  /// What `attention` is, differentiated.
  case attentionGradient(Attention)

  /// Which elements share a mean and a variance.
  public enum Statistics: Sendable {
    case groups(GroupNorm)
    case rows(LayerNorm)
    /// The mean is left in.
    case uncentredRows(epsilon: Float)
  }
}

/// What of the inputs a part of the output depends on: how a sample of a large case is cut out.
public enum Locality: Sendable {
  /// All of them: nothing can be left out.
  case whole
  /// Each element is one of an input's, or a constant.
  case moved(Source)
  /// Each element is a function of the inputs' elements at its place, with broadcasting.
  case elements
  /// As `elements`, of the two halves of the first input's last axis.
  case halves
  /// Each row of the last axis depends on that row of the first input, and on all of the others.
  case rows
  /// Each token depends on that token of the first input and that row of the others.
  case tokens
  case product(MatMul)
  case convolution(Conv2D)
  /// Each element depends on a channel of the first input and on one of the second: a convolution's weight gradient.
  case channels(Conv2D)
  /// Heads of an image.
  case heads(Attention)
  /// Groups of channels of an image.
  case groups(GroupNorm)
  /// Groups of channels of all images: the gradients of such a norm.
  case groupGradients(GroupNorm)

  /// Where the elements of an output come from: which element of which input, or nil for `fill`.
  public struct Source: Sendable {
    /// Reads an element of an input, such as an id of a table's row.
    public typealias Reader = (_ input: Int, _ element: Int) -> Double
    /// What stands where no input's element does.
    public var fill: Double
    /// By the inputs' shapes and the output's.
    public var place:
      @Sendable (_ inputs: [Shape], _ output: Shape, _ read: @escaping Reader) -> (Int) -> (
        input: Int, element: Int
      )?

    init(
      fill: Double = 0,
      _ place:
        @escaping @Sendable (_ inputs: [Shape], _ output: Shape, _ read: @escaping Reader) -> (Int) ->
        (input: Int, element: Int)?
    ) {
      (self.fill, self.place) = (fill, place)
    }

    /// From the index of the output's element to that of the only input's; nil gives `fill`.
    static func index(
      fill: Double = 0, _ map: @escaping @Sendable (_ index: [Int], _ input: Shape) -> [Int]?
    ) -> Source {
      Source(fill: fill) { inputs, output, _ in
        let strides = inputs[0].strides
        return { element in
          map(output.index(of: element), inputs[0]).map {
            (0, zip($0, strides).reduce(0) { $0 + $1.0 * $1.1 })
          }
        }
      }
    }
  }
}

/// What a case's shapes are built from, so that a failing case can be made smaller.
public enum Extents: Sendable {
  /// The inputs' own extents, of which equal ones belong together, as do those of `payload`; `rebuild` makes the
  /// operation of a function that lowers extents.
  case shared(payload: Shape, rebuild: @Sendable (_ lowered: (Shape) -> Shape) -> Operation)
  /// Numbers, and how an operation and its inputs' shapes are built of them.
  case own([Int], build: @Sendable ([Int]) -> (Operation, [Shape]))

  /// The inputs' own extents alone.
  static func inputs(_ operation: Operation) -> Extents { .shared(payload: []) { _ in operation } }
}

/// The specs of an operation's inputs, with the checks that shape inference makes of them.
public struct OperandSpecs {
  let operation: String
  let inputs: [TensorSpec]

  var count: Int { inputs.count }

  subscript(index: Int) -> Shape { inputs[index].shape }

  /// The error that says why the operands do not fit.
  func failure(_ reason: String) -> TensorError {
    .invalidOperands(operation: operation, inputs: inputs, reason: reason)
  }

  func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
    if !condition { throw failure(reason()) }
  }

  func expect(_ count: Int) throws {
    try require(inputs.count == count, "takes \(count) inputs, got \(inputs.count)")
  }

  /// All inputs are floating point and alike, but for one that is stored otherwise.
  func requireFloats(except other: Int? = nil) throws {
    for (index, input) in inputs.enumerated() where index != other {
      try require(input.dtype.isFloatingPoint, "needs floating-point inputs")
      try require(input.dtype == inputs[0].dtype, "its inputs differ in dtype")
    }
  }

  /// That many inputs, floating point and alike.
  func requireFloats(_ count: Int) throws {
    try expect(count)
    try requireFloats()
  }

  func requireVector(_ index: Int, _ count: Int, _ what: String) throws {
    try require(inputs[index].shape == [count], "\(what) must be [\(count)]")
  }

  func product(_ factors: Int...) throws -> Int {
    guard let product = Shape(factors).checkedCount else {
      throw failure("\(factors) are not numbers that it can have")
    }
    return product
  }

  /// A shape in the first input's dtype.
  func like(_ shape: Shape) -> TensorSpec { TensorSpec(shape, inputs[0].dtype) }
}
