import COpenCL
import LangevinKernels
import LangevinTensor

// Foundation has an `Operation` too; the scoped import wins.
import enum LangevinTensor.Operation

extension OperationCall {
  /// Elements of all operands.
  var elements: Int { inputs.reduce(output.shape.count) { $0 + $1.shape.count } }
}

/// One form of a kernel that a driver compiles.
public struct KernelVariant: Sendable, Hashable, Codable {
  /// The kernels' file and the compiler's options: what is built as one program.
  public let program: String
  /// The kernel's name in its program.
  public let kernel: String
  /// Work-items of a work-group; nil where the driver chooses. PoCL compiles a kernel for each.
  public let local: [Int]?
  /// Whether there are 65,535 work-groups or more along an axis, for which PoCL compiles once more.
  public let isLargeGrid: Bool

  init(_ kernel: String, _ source: KernelSource, options: String, global: [Int], local: [Int]?) {
    program = Programs.id(source, options)
    (self.kernel, self.local) = (kernel, local)
    isLargeGrid = global.indices.contains { axis in
      let items = local?[axis] ?? 1
      return (global[axis] + items - 1) / items >= 65_535
    }
  }
}

/// Compiles the kernels of one program: calls, each with those of its kernels that are wanted.
public struct CompileJob: CompilationJob {
  /// A call, and the kernels that it needs.
  public struct Part: Sendable, Codable {
    /// The call.
    public let call: OperationCall
    /// The kernels that it needs.
    public var variants: Set<KernelVariant>
  }

  /// The program's name.
  public let program: String
  /// The program's calls, with the kernels of each.
  public private(set) var parts: [Part] = []
  /// How many kernels all parts have.
  public var variantCount: Int { parts.reduce(0) { $0 + $1.variants.count } }

  init(program: String) { self.program = program }

  mutating func add(_ call: OperationCall, _ variant: KernelVariant) {
    if let index = parts.firstIndex(where: { $0.call == call }) {
      parts[index].variants.insert(variant)
    } else {
      parts.append(Part(call: call, variants: [variant]))
    }
  }

  /// Roughly how long it takes: tiles in registers are unrolled, and cost a compiler the most.
  var weight: Int {
    let tiles: [KernelSource] = [.panels, .tiled, .flashAttention, .tiledAttention]
    return variantCount + (tiles.contains { program.hasPrefix($0.rawValue + " ") } ? 6 : 0)
  }
}

/// A kernel that a listing met, with the arguments that its launch sets.
struct ListedKernel: Sendable, Hashable {
  let kernel: String
  let source: KernelSource
  let options: String
  let parameters: [KernelParameter]
}

/// Which launches reach the queue while kernels are listed or compiled.
struct LaunchSelection: Sendable {
  /// None while kernels are only listed.
  private let wanted: Set<KernelVariant>
  private(set) var seen: Set<KernelVariant> = []
  /// Filled by listings.
  private(set) var kernels: Set<ListedKernel> = []
  var isListing: Bool { wanted.isEmpty }

  init(wanted: Set<KernelVariant> = []) { self.wanted = wanted }

  mutating func admits(
    _ variant: KernelVariant, _ kernel: some Kernel, _ source: KernelSource, options: String
  ) throws -> Bool {
    seen.insert(variant)
    if isListing {
      kernels.insert(
        ListedKernel(
          kernel: variant.kernel, source: source, options: options,
          parameters: try ArgumentEncoder.list(kernel)))
    }
    return wanted.contains(variant)
  }
}

extension OpenCLBackend {
  /// What compiles the kernels of these calls, one job a program, the longest first. Nothing is compiled but, on
  /// devices that claim subgroups, their probe.
  ///
  /// Throws `TensorError`.
  public func compileJobs(for calls: some Sequence<OperationCall>) throws -> [CompileJob] {
    var smallest: [KernelVariant: OperationCall] = [:]
    for call in calls where supports(call.operation, inputs: call.inputs) && call.output.shape.count > 0 {
      for variant in try variants(of: call).union(packingVariants(of: call)) {
        if let known = smallest[variant], known.elements <= call.elements { continue }
        smallest[variant] = call
      }
    }
    var jobs: [String: CompileJob] = [:]
    for (variant, call) in smallest {
      jobs[variant.program, default: CompileJob(program: variant.program)].add(call, variant)
    }
    return jobs.values.sorted { ($1.weight, $0.program) < ($0.weight, $1.program) }
  }

  /// The kernels that a call launches. Nothing reaches the queue.
  func variants(of call: OperationCall) throws -> Set<KernelVariant> { try listing(of: call).seen }

  /// The kernels that pack a call's weight, where it has one. Nothing reaches the queue.
  private func packingVariants(of call: OperationCall) throws -> Set<KernelVariant> {
    guard let index = call.operation.packedInput else { return [] }
    let weight = call.inputs[index]
    return try listing("pack") { [kernels] view, queue in
      try kernels.pack(view(weight), to: view(weight), WeightShape(of: weight), on: &queue)
    }.seen
  }

  /// The kernels that a call launches, with their arguments. Nothing reaches the queue.
  func listing(of call: OperationCall) throws -> LaunchSelection {
    try listing(call.operation.name) { [kernels] view, queue in
      try queue.run(call.operation, call.inputs.map(view), view(call.output), by: kernels)
    }
  }

  /// What `body` launches on operands that nobody reads.
  private func listing(
    _ name: String, _ body: ((TensorSpec) -> TensorView, inout LaunchQueue) throws -> Void
  ) throws -> LaunchSelection {
    try guarded(name) { [kernels] queue in
      kernels.prepare(&queue)
      queue.selection = LaunchSelection()
      defer { queue.selection = nil }
      let storage = try queue.scratch(64)
      try body({ TensorView(storage: storage, offset: 0, spec: $0) }, &queue)
      return queue.selection ?? LaunchSelection()
    }
  }

  /// Builds a job's program and runs each of its kernels once, on zeros: some drivers compile no sooner.
  ///
  /// Throws `TensorError`.
  public func compile(_ job: CompileJob) throws {
    for part in job.parts {
      func zeros(_ spec: TensorSpec) throws -> TensorView {
        let storage = try allocate(byteCount: spec.byteCount)
        try [UInt8](repeating: 0, count: spec.byteCount).withUnsafeBytes {
          try upload($0, to: storage, byteOffset: 0)
        }
        return TensorView(storage: storage, offset: 0, spec: spec)
      }
      let packedInput = part.call.operation.packedInput
      let inputs = try part.call.inputs.enumerated().map { index, spec in
        guard index == packedInput else { return try zeros(spec) }
        let bytes = packedByteCount(WeightShape(of: spec), spec.dtype) ?? spec.byteCount
        let packed = try zeros(TensorSpec([bytes / spec.dtype.byteCount], spec.dtype))
        return TensorView(storage: packed.storage, offset: 0, spec: spec)
      }
      let weight = try packedInput.map { try zeros(part.call.inputs[$0]) }
      let output = try zeros(part.call.output)
      try guarded(part.call.operation.name) { [kernels] queue in
        queue.selection = LaunchSelection(wanted: part.variants)
        defer { queue.selection = nil }
        if let weight, let packedInput {
          try kernels.pack(weight, to: inputs[packedInput], WeightShape(of: weight.spec), on: &queue)
        }
        try queue.run(part.call.operation, inputs, output, by: kernels)
      }
      try synchronize()
    }
  }
}

extension WeightShape {
  /// Of a packed operand, [rows, columns]; which rows are taps makes no difference to the kernel.
  fileprivate init(of packed: TensorSpec) { self.init(channels: packed.shape[0], columns: packed.shape[1]) }
}
