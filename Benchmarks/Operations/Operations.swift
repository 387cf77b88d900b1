import Benchmark
import BenchmarkDevices
import Langevin
import LangevinTensor

// The operations at the shapes of Stable Diffusion 1.5, 512 x 512 pixels, guided (batch 2), in float32.
// Products report GFLOP/s by the direct count, the rest MB/s of operands read and written once.
let benchmarks: @Sendable () -> Void = {
  var configuration = Benchmark.defaultConfiguration
  configuration.timeUnits = .microseconds
  configuration.warmupIterations = 1
  configuration.maxDuration = .milliseconds(700)
  configuration.maxIterations = 200
  for choice in BenchmarkDevices.all {
    let suite = Suite(choice: choice, configuration: configuration)
    suite.products()
    suite.convolutions()
    suite.attentions()
    suite.passes()
  }
}

struct Suite {
  let choice: DeviceChoice
  let configuration: Benchmark.Configuration

  private func compute(_ name: String, flop: Int, _ make: @escaping (Device) throws -> () throws -> Void) {
    let metric = BenchmarkMetric.custom("GFLOP/s", polarity: .prefersLarger)
    measure(
      name, on: choice, metric: metric, amount: Double(flop) / 1e9, configuration: configuration, make)
  }

  private func move(_ name: String, elements: Int, _ make: @escaping (Device) throws -> () throws -> Void) {
    let metric = BenchmarkMetric.custom("MB/s", polarity: .prefersLarger)
    measure(
      name, on: choice, metric: metric, amount: Double(4 * elements) / 1e6, configuration: configuration, make
    )
  }

  /// M x N x K; the right operand is a weight in the device's own layout, but for the last, whose operands
  /// are both computed.
  func products() {
    for (m, n, k) in [
      (1024, 1024, 1024), (4096, 320, 320), (4096, 2560, 320), (1024, 5120, 640), (256, 1280, 1280),
    ] {
      compute("matmul \(m)x\(n)x\(k)", flop: 2 * m * n * k) { device in
        let (x, weight) = (try device.normal([m, k]), try Weight(linear: device.normal([n, k])))
        return { _ = try x.matmul(weight) }
      }
    }
    compute("matmul 4096x4096x40", flop: 2 * 4096 * 4096 * 40) { device in
      let (a, b) = (try device.normal([4096, 40]), try device.normal([4096, 40], seed: 2))
      return { _ = try a.matmul(b, right: .transposed) }
    }
  }

  func convolutions() {
    for (images, inputs, outputs, size) in [
      (2, 320, 320, 64), (2, 640, 640, 32), (2, 1280, 1280, 16), (2, 1280, 1280, 8), (2, 960, 320, 64),
      (1, 512, 512, 128), (1, 128, 128, 512),
    ] {
      let flop = 2 * 9 * images * size * size * inputs * outputs
      compute("conv3x3 \(images)x\(inputs)->\(outputs)@\(size)", flop: flop) { device in
        let x = try device.normal([images, size, size, inputs])
        let weight = try Weight(convolution: device.normal([outputs, inputs, 3, 3]))
        return {
          _ = try x.conv2d(weight, kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1))
        }
      }
    }
  }

  /// 2 images, 8 heads: queries, keys, head size.
  func attentions() {
    for (queries, keys, size) in [(4096, 4096, 40), (1024, 1024, 80), (256, 256, 160), (4096, 77, 40)] {
      compute("attention 2x8x\(queries)x\(keys)x\(size)", flop: 4 * 16 * queries * keys * size) { device in
        let q = try device.normal([2, queries, 8 * size])
        let k = try device.normal([2, keys, 8 * size], seed: 2)
        let v = try device.normal([2, keys, 8 * size], seed: 3)
        return { _ = try q.attention(keys: k, values: v, heads: 8) }
      }
    }
  }

  /// What passes over memory once, at the UNet's first level.
  func passes() {
    let (image, tokens): (Shape, Shape) = ([2, 64, 64, 320], [2, 4096, 320])
    move("group_norm+silu \(image)", elements: 2 * image.count) { device in
      let (x, vector) = (try device.normal(image), try device.normal([320]))
      return { _ = try x.groupNorm(vector, vector, groups: 32, epsilon: 1e-5, activation: .silu) }
    }
    move("layer_norm \(tokens)", elements: 2 * tokens.count) { device in
      let (x, vector) = (try device.normal(tokens), try device.normal([320]))
      return { _ = try x.layerNorm(vector, vector, epsilon: 1e-5) }
    }
    move("geglu [2, 4096, 2560]", elements: 3 * 2 * 4096 * 1280) { device in
      let x = try device.normal([2, 4096, 2560])
      return { _ = try x.geglu() }
    }
    move("softmax [16, 1024, 1024]", elements: 2 * 16 * 1024 * 1024) { device in
      let x = try device.normal([16, 1024, 1024])
      return { _ = try x.softmax() }
    }
    move("upsample_nearest [2, 32, 32, 640]", elements: 5 * 2 * 32 * 32 * 640) { device in
      let x = try device.normal([2, 32, 32, 640])
      return { _ = try x.upsampledNearest(2) }
    }
    move("transpose \(image) to channels first", elements: 2 * image.count) { device in
      let x = try device.normal(image)
      return { _ = try x.transposed([0, 3, 1, 2]) }
    }
    move("linear_combination 3 x \(image)", elements: 4 * image.count) { device in
      let x = try (0..<3).map { try device.normal(image, seed: $0) }
      return { _ = try Tensor.combination([(0.9, x[0]), (0.3, x[1]), (-0.1, x[2])]) }
    }
  }
}
