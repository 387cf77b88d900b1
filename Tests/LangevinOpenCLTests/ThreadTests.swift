import Foundation
import LangevinTensor
import Synchronization
import Testing

@testable import LangevinOpenCL

/// One backend, several threads at the same time.
@Suite(.serialized) struct ThreadTests {
  /// Runs `body` on threads of their own and throws the first error.
  private func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
    let problem = Mutex<(any Error)?>(nil)
    let group = DispatchGroup()
    for index in 0..<count {
      group.enter()
      Thread {
        defer { group.leave() }
        do { try body(index) } catch { problem.withLock { $0 = $0 ?? error } }
      }.start()
    }
    group.wait()
    if let error = problem.withLock({ $0 }) { throw error }
  }

  /// Many kernels, some of several launches and with scratch memory; the sizes differ by thread, so that an
  /// argument of another thread's launch shows.
  @Sendable private func results(_ thread: Int, on device: Device) throws -> [[UInt32]] {
    let (rows, width) = (5 + thread, 32 * (1 + thread % 2))
    let x = try Tensor.normal([1, rows, width], seed: UInt64(thread), on: device)
    let gamma = try Tensor.fill(1 + Float(thread), [width], on: device)
    let weight = try Tensor.normal([width, 7], seed: 99, on: device)
    let values = try [
      x.affine(scale: Float(thread), offset: 1), x.map(.silu), x.softmax(), x.layerNorm(epsilon: 1e-5),
      x.attention(keys: x, values: x, heads: 2), x.transposed([0, 2, 1]), x.reduced(.sum, axes: [1]),
      x.groupNorm(gamma, gamma, groups: 4, epsilon: 1e-5),
      x.reshaped([rows, width]).matmul(weight, scale: 1 + Float(thread)),
    ]
    return try values.map { try $0.floats().map(\.bitPattern) }
  }

  @Test(arguments: TestDevice.all)
  func everyThreadHasTheBitsThatItHasAlone(test: TestDevice) throws {
    let backend = try OpenCLBackend(index: test.index, family: test.family)
    let device = Device(backend)
    let threads = 4
    let alone = try (0..<threads).map { try results($0, on: device) }
    let calls = [
      OperationCall(.softmax, inputs: [TensorSpec([3, 40])], output: TensorSpec([3, 40])),
      OperationCall(.unary(.exp), inputs: [TensorSpec([9])], output: TensorSpec([9])),
    ]
    let listed = try calls.map { try backend.variants(of: $0) }
    try onThreads(threads + 1) { thread throws in
      for _ in 0..<20 {
        guard thread < threads else {
          // A listing holds back its own launches, and no others.
          for (call, variants) in zip(calls, listed) { #expect(try backend.variants(of: call) == variants) }
          continue
        }
        #expect(try results(thread, on: device) == alone[thread])
      }
    }
  }

  @Test(arguments: TestDevice.all)
  func recordsOfSeveralThreadsBelongToTheirOperations(test: TestDevice) throws {
    let backend = try OpenCLBackend(index: test.index, family: test.family)
    let device = Device(backend)
    let x = try Tensor.normal([40], seed: 1, on: device)
    // Builds them.
    _ = try (x.map(.exp), x.affine(scale: 1, offset: 1))
    try backend.startRecording()
    defer { try? backend.stopRecording() }
    try onThreads(4) { thread in
      for _ in 0..<50 { _ = try thread % 2 == 0 ? x.map(.exp) : x.affine(scale: 2, offset: 1) }
    }
    let records = try backend.takeRecords()
    #expect(records.count == 200)
    #expect(Set(records.map(\.sequence)).count == 200)
    for record in records { #expect(record.kernel == (record.operation == .unary(.exp) ? "map" : "affine")) }
  }
}
