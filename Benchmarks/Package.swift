// swift-tools-version: 6.1
import PackageDescription

// A package of its own, so that users of the library do not pull the harness in.
let package = Package(
  name: "langevin-benchmarks",
  dependencies: [
    .package(name: "langevin", path: ".."),
    // Without its traits: they count allocations, which nothing here asks for, and need more packages.
    .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
  ],
  targets: [
    .target(
      name: "BenchmarkDevices",
      dependencies: [
        .product(name: "Langevin", package: "langevin"),
        .product(name: "LangevinTensor", package: "langevin"),
        .product(name: "Benchmark", package: "benchmark"),
      ]),
    .benchmark("Operations"),
    .benchmark("DenoiseStep"),
  ],
  swiftLanguageModes: [.v6]
)

extension Target {
  /// The harness looks for executables in folders of a folder named Benchmarks, which is this one.
  static func benchmark(_ name: String) -> Target {
    .executableTarget(
      name: name,
      dependencies: [
        "BenchmarkDevices", .product(name: "Benchmark", package: "benchmark"),
      ]
        + ["Langevin", "LangevinDiffusion", "LangevinModels", "LangevinNN", "LangevinTensor"].map {
          .product(name: $0, package: "langevin")
        },
      path: name,
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
  }
}
