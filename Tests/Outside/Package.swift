// swift-tools-version: 6.0
import PackageDescription

// A package that is not Langevin's and adds a sampler to it: what the article "Writing a sampler" shows. `make outside`
// builds it and runs its tests.
let package = Package(
  name: "outside",
  dependencies: [.package(name: "langevin", path: "../..")],
  targets: [
    .target(
      name: "MidpointSampler", dependencies: [.product(name: "LangevinDiffusion", package: "langevin")]),
    .testTarget(
      name: "MidpointSamplerTests",
      dependencies: ["MidpointSampler", .product(name: "LangevinCPU", package: "langevin")]),
  ],
  swiftLanguageModes: [.v6]
)
