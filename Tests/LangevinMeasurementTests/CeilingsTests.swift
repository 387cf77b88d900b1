import Foundation
import Langevin
import LangevinCPU
import LangevinOpenCL
import LangevinTensor
import Testing

import enum LangevinTensor.Operation

@testable import LangevinMeasurement

@Suite(.serialized) struct CeilingsTests {
  /// Every device here, none of which may be missing from a probe.
  static let devices: [Device] =
    [Device(CPUBackend())]
    + OpenCLDevices.all().compactMap { try? Device(OpenCLBackend(index: $0.index)) }

  @Test(arguments: devices) func productsStayBelowTheCeiling(device: Device) throws {
    let clock = ContinuousClock()
    let size = 768
    let x = try Tensor([Float](repeating: 0.5, count: size * size), [size, size], on: device)
    let weight = try Weight(linear: x)
    var ceilings = try Ceilings.measure(on: device)
    var fastest = Double.infinity
    var product: Double { 2 * Double(size * size * size) / fastest }
    // A machine that others use too slows down one or the other: the best of each, in turns. A probe takes longer than a
    // product and is disturbed more often, so it gets more turns while it is behind.
    for round in 0..<40 where round < 6 || product >= 1.2 * ceilings.flops {
      ceilings.flops = max(ceilings.flops, try Ceilings.measure(on: device).flops)
      for _ in 0..<3 {
        let start = clock.now
        _ = try x.matmul(weight)
        try device.backend.synchronize()
        fastest = min(fastest, (clock.now - start) / .seconds(1))
      }
    }
    #expect(product < 1.2 * ceilings.flops)
    #expect(ceilings.bandwidth > 1e9 && ceilings.bandwidth < 1e13)
    #expect(ceilings.flops > 1e9 && ceilings.flops < 1e15)
  }

  @Test func nothingIsTimedWhileAThreadSpins() {
    let end = ContinuousClock.now + .milliseconds(300)
    let thread = Thread { while ContinuousClock.now < end {} }
    thread.start()
    waitUntilIdle()
    #expect(ContinuousClock.now >= end)
  }

  @Test func aFractionIsOfTheCeilingThatBinds() throws {
    let ceilings = Ceilings(flops: 100e9, bandwidth: 10e9)
    #expect(ceilings.fraction(flops: 50e9, bytes: 1e9, seconds: 1) == 0.5)
    #expect(ceilings.fraction(flops: 1e9, bytes: 8e9, seconds: 1) == 0.8)
    #expect(ceilings.fraction(flops: 1e9, bytes: 8e9, seconds: 0) == 0)
  }

  @Test func aBackendWithoutProbeSaysSo() throws {
    #expect(throws: MeasurementError.self) { try Ceilings.measure(on: Device(MuteBackend())) }
  }
}

private final class MuteBackend: IdleBackend {
  let name = "mute"
}
