import Foundation
import LangevinKernels
import LangevinTensor
import LangevinValidation
import Testing

@testable import LangevinOpenCL

/// Launches' types against what drivers say of the kernels that they built.
@Suite(.serialized) struct ArgumentTests {
  /// Every kernel that a case of the table launches, once for each list of parameters.
  private static func kernels(on backend: OpenCLBackend) throws -> [ListedKernel] {
    struct Form: Hashable {
      let kernel: String
      let source: KernelSource
      let parameters: [KernelParameter]
      /// The one macro that adds parameters.
      let isConvolution: Bool
    }
    var forms: [Form: ListedKernel] = [:]
    for dtype in [DType.float32, .float16, .bfloat16] {
      for row in OperationCases.all {
        let (operation, inputs) = (row.operation(dtype), row.specs(dtype))
        let output = try operation.output(of: inputs)
        guard backend.supports(operation, inputs: inputs), output.shape.count > 0 else { continue }
        let call = OperationCall(operation, inputs: inputs, output: output)
        for kernel in try backend.listing(of: call).kernels {
          let form = Form(
            kernel: kernel.kernel, source: kernel.source, parameters: kernel.parameters,
            isConvolution: kernel.options.contains("-DCONV=1"))
          forms[form] = forms[form] ?? kernel
        }
      }
    }
    return Array(forms.values)
  }

  @Test(arguments: TestDevice.all)
  func everyLaunchHasTheArgumentsOfItsKernel(test: TestDevice) throws {
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(index: test.index, family: test.family, programCache: folder.url)
    let kernels = try Self.kernels(on: backend)
    #expect(kernels.count > 20)
    for launch in kernels {
      let kernel = try backend.parameters(of: launch.kernel, launch.source, options: launch.options)
      let differences = KernelParameter.differences(launch: launch.parameters, kernel: kernel)
      #expect(differences.isEmpty, "\(launch.source) \(launch.kernel): \(differences)")
    }
  }

  @Test(arguments: TestDevice.all)
  func probesHaveTheArgumentsOfTheirKernels(test: TestDevice) throws {
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(index: test.index, family: test.family, programCache: folder.url)
    let storage = try backend.pool.allocate(64)
    func check<K: Kernel>(_ kernel: K, _ program: Program) throws {
      let built = try backend.parameters(of: K.name, program.source, options: program.options)
      #expect(try KernelParameter.differences(launch: ArgumentEncoder.list(kernel), kernel: built).isEmpty)
    }
    let program = Program.peak(lanes: 4, chains: 4, span: 4, isBlocked: true)
    try check(FMAPeakKernel(y: storage, a: 1, b: 1, count: 1), program)
    try check(CopyPeakKernel(x: storage, y: storage), program)
    try check(ReadPeakKernel(x: storage, y: storage), program)
    try check(TeamProbeKernel(y: storage), .teamProbe(items: 64))
    let pairs = test.family == .cpu ? backend.locked { $0.pairProducts() } : DotForm.none
    if pairs != .none {
      try check(PairProbeKernel(a: storage, b: storage, y: storage, start: 0), .pairProbe(pairs))
    }
  }

  /// Else the first test would say nothing of it.
  @Test func everyKernelOfTheSourcesIsLaunchedByACase() throws {
    var launched: Set<String> = []
    for test in TestDevice.all.prefix(KernelFamily.allCases.count) {
      let backend = try OpenCLBackend(index: test.index, family: test.family)
      for kernel in try Self.kernels(on: backend) { launched.insert("\(kernel.source) \(kernel.kernel)") }
    }
    var written: Set<String> = []
    // Where no processor has the instruction, no case launches it.
    let multipliesBytes = OpenCLDevices.all(probe: true).prefix(1).contains { $0.byteProducts }
    for source in KernelSource.allCases where ![.probe, .teamProbe, .pairProbe, .byteProbe].contains(source) {
      if source == .int8Product, !multipliesBytes { continue }
      // A kernel's name is the last word before its parameters.
      for match in source.text.matches(of: /__kernel (?:__attribute__\(\([^)]*\)\)\) )?void (\w+)\(/) {
        written.insert("\(source) \(match.1)")
      }
    }
    #expect(written.count > 25)
    #expect(launched == written)
  }

  // MARK: Faults are found

  /// A kernel of a convolution by panels, the longest list.
  private static func convolution() throws -> [KernelParameter] {
    let index = try #require(TestDevice.all.first).index
    let backend = try OpenCLBackend(index: index, family: .cpu)
    let conv = Conv2D(kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))
    let call = OperationCall(
      .conv2d(conv), inputs: [TensorSpec([1, 4, 4, 2]), TensorSpec([18, 3])],
      output: TensorSpec([1, 4, 4, 3]))
    let product = try backend.listing(of: call).kernels.first { $0.source == .panels }
    return try #require(product).parameters
  }

  @Test func everySwappedPairIsFoundByBothNames() throws {
    let right = try Self.convolution()
    #expect(right.count == 37)
    for first in right.indices {
      for second in right.indices.dropFirst(first + 1) {
        var swapped = right
        swapped.swapAt(first, second)
        let differences = KernelParameter.differences(launch: swapped, kernel: right)
        #expect(differences.count == 2)
        #expect(differences.allSatisfy { $0.contains(right[first].name) && $0.contains(right[second].name) })
      }
    }
  }

  @Test func missingSurplusAndWronglyTypedArgumentsAreFound() throws {
    let right = try Self.convolution()
    for index in right.indices {
      var list = right
      list.remove(at: index)
      #expect(!KernelParameter.differences(launch: list, kernel: right).isEmpty)
      #expect(!KernelParameter.differences(launch: right, kernel: list).isEmpty)
      list = right
      list[index].kind = right[index].kind == .ulong ? .int : .ulong
      #expect(KernelParameter.differences(launch: list, kernel: right).count == 1)
      guard case .buffer(let isWritten) = right[index].kind else { continue }
      list[index].kind = .buffer(isWritten: !isWritten)
      #expect(KernelParameter.differences(launch: list, kernel: right).count == 1)
    }
  }

  /// As somebody might write it who trusts the names alone.
  private struct SwappedReduction: Kernel {
    static let name = ReducePartialsKernel.name
    var right: ReducePartialsKernel

    func encode(to arguments: inout ArgumentEncoder) throws {
      try arguments.reads("partial", scratch: right.partial)
      try arguments.writes("y", right.y)
      try arguments.float("scale", right.scale)
      try arguments.int("chunks", right.chunks)
    }
  }

  @Test(arguments: TestDevice.all)
  func aLaunchThatSwapsTwoArgumentsIsFound(test: TestDevice) throws {
    let folder = try TemporaryFolder()
    let backend = try OpenCLBackend(index: test.index, family: test.family, programCache: folder.url)
    let storage = try backend.pool.allocate(64)
    let y = TensorView(storage: storage, offset: 0, spec: TensorSpec([1]))
    let right = ReducePartialsKernel(partial: storage, y: y, chunks: 1, scale: 1)
    let tile = VectorTile(vector: 4, lanes: 1, rows: 64)
    let program = Program.reduce(.float32, .sum, chunk: 256, tile)
    let built = try backend.parameters(of: right.kernelName, program.source, options: program.options)
    let differences = try KernelParameter.differences(
      launch: ArgumentEncoder.list(SwappedReduction(right: right)), kernel: built)
    #expect(
      differences == [
        "argument 3: the launch has float scale, the kernel int chunks",
        "argument 4: the launch has int chunks, the kernel float scale",
      ])
    #expect(try KernelParameter.differences(launch: ArgumentEncoder.list(right), kernel: built).isEmpty)
  }
}

extension Kernel {
  fileprivate var kernelName: String { Self.name }
}
