import Benchmark
import Langevin
import LangevinTensor

/// The devices that benchmarks run on: the CPU backend and every other that can be used.
public enum BenchmarkDevices {
  public static let all: [DeviceChoice] =
    BackendRegistry.devices.filter { $0.problem == nil }.map { DeviceChoice($0) }
}

/// A workload whose results are on the device, made once and run many times.
public final class Workload {
  private let device: Device
  private let body: () throws -> Void

  /// Without fallback: a benchmark must not time another device than its name says.
  public init(_ choice: DeviceChoice, _ make: (Device) throws -> () throws -> Void) throws {
    device = try choice.open(fallback: false)
    body = try make(device)
  }

  /// Runs it once, to the end, and returns the seconds.
  public func run() throws -> Double {
    try device.synchronize()
    let start = ContinuousClock.now
    try body()
    try device.synchronize()
    return (ContinuousClock.now - start) / .seconds(1)
  }
}

/// A benchmark of one workload. The first run is not measured: it builds kernels and fills caches.
///
/// `amount` is what a run does, in units of `metric` times a second (GFLOP for GFLOP/s).
public func measure(
  _ name: String, on choice: DeviceChoice, metric: BenchmarkMetric? = nil, amount: Double = 0,
  configuration: Benchmark.Configuration, _ make: @escaping (Device) throws -> () throws -> Void
) {
  var configuration = configuration
  configuration.metrics = [.wallClock] + (metric.map { [$0] } ?? [])
  Benchmark(
    "\(name) f32 \(choice)", configuration: configuration,
    closure: { (benchmark: Benchmark, workload: Workload) in
      do {
        benchmark.startMeasurement()
        let seconds = try workload.run()
        benchmark.stopMeasurement()
        if let metric { benchmark.measurement(metric, Int((amount / seconds).rounded())) }
      } catch {
        benchmark.error("\(error)")
      }
    },
    setup: { try Workload(choice, make) })
}

extension Device {
  fileprivate func synchronize() throws { try backend.synchronize() }

  /// Standard normal numbers.
  public func normal(_ shape: Shape, seed: UInt64 = 1) throws -> Tensor {
    try Tensor.normal(shape, seed: seed, on: self)
  }
}
