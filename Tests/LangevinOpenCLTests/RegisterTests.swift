import LangevinKernels
import LangevinTensor
import LangevinValidation
import Testing

@testable import LangevinOpenCL

/// Whether graphics kernels keep their arrays in registers, by what the driver says of each. Of the drivers that CI has,
/// only Mesa's rusticl says it.
@Suite struct RegisterTests {
  /// Mesa 25 says nothing of kernels here: its llvmpipe calls functions, and what they hold and return is in memory. Its
  /// drivers of cards inline them, as Mesa 22 does.
  private static let devices = TestDevice.all.filter { test in
    let driver = OpenCLDevices.all()[test.index].driver
    return test.family == .gpu && test.name == "rusticl" && driver.hasPrefix("22.")
  }

  /// A loop that is too long to be unrolled puts the arrays that it indexes into memory, for the whole kernel: then a
  /// product's sums are read and written with every step.
  @Test(arguments: devices)
  func graphicsKernelsKeepTheirArraysInRegisters(test: TestDevice) throws {
    let backend = try OpenCLBackend(index: test.index, family: test.family)
    var kernels: Set<ListedKernel> = []
    for row in OperationCases.all {
      let (operation, inputs) = (row.operation(.float32), row.specs(.float32))
      let output = try operation.output(of: inputs)
      guard backend.supports(operation, inputs: inputs), output.shape.count > 0 else { continue }
      let call = OperationCall(operation, inputs: inputs, output: output)
      kernels.formUnion(try backend.listing(of: call).kernels)
    }
    #expect(kernels.count > 50)
    for kernel in kernels {
      let resources = try backend.resources(of: kernel.kernel, kernel.source, options: kernel.options)
      let bytes = resources.privateMemory
      // This kernel adds to the rows that ids name, so that its array needs an index.
      let isIndexed = kernel.source == .embeddingGradient
      #expect((bytes > 0) == isIndexed, "\(kernel.source) \(kernel.kernel) \(kernel.options): \(bytes) bytes")
    }
  }
}
