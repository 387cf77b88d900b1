import LangevinTensor

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

/// Which form of the kernels a device runs: a property of its kind, not of its name.
public enum KernelFamily: String, Sendable, Codable, CaseIterable {
  /// Wide vectors, work-group size 1, no local memory.
  case cpu
  /// Tiles in local memory, neighbouring work-items on neighbouring elements.
  case gpu

  /// The kernels themselves.
  func kernels(for device: DeviceDescription) -> any KernelSet {
    switch self {
    case .cpu: ProcessorKernels(device: device)
    case .gpu: GraphicsKernels(device: device)
    }
  }
}

/// How one class of devices computes each operation: `ProcessorKernels` and `GraphicsKernels`.
///
/// A new kernel is a struct in `Kernels/`, one property a parameter, and a case of `Program` where its source is
/// new. The operation that it computes is a line in `launch`, and a method: where one launch serves both sets,
/// sized by `work`, in an extension of this protocol in `Shared/`; else a requirement here, which each set
/// fulfils in its own folder.
protocol KernelSet: Sendable {
  var family: KernelFamily { get }
  var device: DeviceDescription { get }
  /// How the kernels that serve both sets share out their work.
  var work: WorkShape { get }
  /// How the device's ceilings are measured.
  var peak: PeakProbe { get }

  /// What must be known of a device before its kernels are listed or recorded.
  func prepare(_ queue: inout LaunchQueue)
  /// Whether norms and attention reduce over subgroups.
  func usesSubgroups(_ queue: inout LaunchQueue) -> Bool

  /// How products of bfloat16 are computed.
  func pairProducts(_ queue: inout LaunchQueue) -> DotForm
  /// How products of int8 are.
  func byteProducts(_ queue: inout LaunchQueue) -> DotForm

  /// Columns of a panel of packed weights; nil where rows serve as they are.
  var panelWidth: Int? { get }
  /// Writes a weight in the form that products read.
  func pack(
    _ source: TensorView, to packed: TensorView, _ shape: WeightShape, on queue: inout LaunchQueue) throws
  /// Writes a packed weight to a row-major output.
  func unpack(_ weight: TensorView, into output: TensorView, on queue: inout LaunchQueue) throws
  /// Whether heads of this size can be computed.
  func supports(_ attention: Attention, size: Int) -> Bool

  func matmul(_ matmul: MatMul, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws
  func conv2d(_ conv: Conv2D, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws
  func attention(
    _ attention: Attention, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws
  func move(_ movement: Movement, on queue: inout LaunchQueue) throws

  /// The gradient of attention: whether heads of this size can be computed.
  func supportsGradient(of attention: Attention, size: Int) -> Bool
  func weightGradient(
    _ geometry: ConvolutionGeometry, _ x: TensorView, _ g: TensorView, _ y: TensorView,
    on queue: inout LaunchQueue) throws
  func attentionGradient(
    _ attention: Attention, _ x: AttentionGradientViews, on queue: inout LaunchQueue) throws
}

/// A work-item's share of a matrix: `lanes` vectors of `rows` rows.
struct VectorTile: Sendable, Hashable {
  let vector, lanes, rows: Int
}

/// The sizes by which two sets of kernels differ where their source is the same.
struct WorkShape: Sendable {
  /// Elements of a vector.
  let vector: Int
  /// Elements of a work-item, and work-items of a work-group, in element-wise kernels.
  let chunk, group: Int
  /// Elements of a work-item in conversions, and in reductions.
  let castChunk, reduceChunk: Int
  /// Work-items that share a row of a norm.
  let rowItems: Int
  /// Rows of a work-item that packs a matrix.
  let packRows: Int
  /// Columns and rows of a work-item that reduces with vectors along the columns, and that sums an embedding's.
  let columns, embedding: VectorTile
  /// Pixels of a part of a group norm's sums, and rows of a part of a row norm's: they decide bits.
  let gradientChunk, gradientRows: Int
  /// Whether a work-item is a work-group of its own, else the driver chooses.
  let isAlone: Bool

  /// Work-groups of kernels that care for no size.
  func local(rank: Int) -> [Int]? { isAlone ? [Int](repeating: 1, count: rank) : nil }
}

extension KernelSet {
  func prepare(_ queue: inout LaunchQueue) {}

  func usesSubgroups(_ queue: inout LaunchQueue) -> Bool { false }

  func pairProducts(_ queue: inout LaunchQueue) -> DotForm { .none }

  func byteProducts(_ queue: inout LaunchQueue) -> DotForm { .none }

  /// Puts an operation's kernels on the queue. Throws `TensorError` and `OpenCLError`.
  func launch(
    _ operation: Operation, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    switch operation {
    case .matmul(let matmul): try self.matmul(matmul, x, y, on: &queue)
    case .conv2d(let conv): try conv2d(conv, x, y, on: &queue)
    case .attention(let attention): try self.attention(attention, x, y, on: &queue)
    case .groupNorm(let norm): try groupNorm(norm, x, y, on: &queue)
    case .layerNorm(let norm): try layerNorm(norm, x, y, on: &queue)
    case .rmsNorm(let epsilon): try rmsNorm(epsilon, x, y, on: &queue)
    case .rotary(let rotary): try self.rotary(rotary, x, y, on: &queue)
    case .softmax: try softmax(x[0], y, on: &queue)
    case .unary(let function): try map(function, x[0], y, on: &queue)
    case .affine(let scale, let offset): try affine(x[0], y, scale: scale, offset: offset, on: &queue)
    case .clamp(let lower, let upper): try clamp(x[0], y, lower: lower, upper: upper, on: &queue)
    case .geglu: try geglu(x[0], y, on: &queue)
    case .binary(let function): try binary(function, x[0], x[1], y, on: &queue)
    case .linearCombination(let coefficients): try linearCombination(coefficients, x, y, on: &queue)
    case .reduce(let reduce): try self.reduce(reduce, x[0], y, on: &queue)
    case .embedding: try embedding(table: x[0], ids: x[1], y, on: &queue)
    case .transpose(let permutation): try transpose(permutation, x[0], y, on: &queue)
    case .broadcast(let shape): try broadcast(x[0], to: shape, y, on: &queue)
    case .slice(let slice): try self.slice(slice, x[0], y, on: &queue)
    case .concatenate(let axis): try concatenate(axis, x, y, on: &queue)
    case .pad(let pad): try self.pad(pad, x[0], y, on: &queue)
    case .upsampleNearest(let factor): try upsample(factor, x[0], y, on: &queue)
    case .cast(let dtype): try cast(x[0], y, to: dtype, on: &queue)
    case .normalNoise(let noise): try normalNoise(noise, y, on: &queue)
    case .fill(let value, let spec): try fill(value, spec, y, on: &queue)
    case .conv2dWeightGradient(let conv): try conv2dWeightGradient(conv, x[0], x[1], y, on: &queue)
    case .attentionGradient(let attention): try attentionGradient(attention, x, y, on: &queue)
    case .groupNormGradient(let norm):
      try groupNormGradient(norm, x[0], gamma: x[1], beta: x[2], x[3], y, on: &queue)
    case .layerNormGradient(let norm):
      try rowNormGradient(
        x[0], gamma: norm.affine ? x[1] : nil, x[norm.affine ? 2 : 1], y, epsilon: norm.epsilon,
        centred: true, on: &queue)
    case .rmsNormGradient(let epsilon):
      try rowNormGradient(x[0], gamma: x[1], x[2], y, epsilon: epsilon, centred: false, on: &queue)
    case .unaryGradient(let function): try unaryGradient(function, x[0], x[1], y, on: &queue)
    case .gegluGradient: try gegluGradient(x[0], x[1], y, on: &queue)
    case .embeddingGradient: try embeddingGradient(ids: x[0], x[1], y, on: &queue)
    case .adamW(let step): try adamW(step, state: x[0], gradient: x[1], scale: x[2], y, on: &queue)
    case .nonFiniteCount: try nonFiniteCount(x[0], y, on: &queue)
    case .dequantize(let encoding): try dequantize(encoding, x[0], y, on: &queue)
    }
  }
}
