// swift-tools-version: 6.0
import PackageDescription

// A package that is not Langevin's and adds a sampler and a pipeline to it: what the articles "Writing a sampler" and
// "Writing a pipeline" show. `make outside` builds it and runs its tests.
let package = Package(
  name: "outside",
  dependencies: [.package(name: "langevin", path: "../..")],
  targets: [
    .target(
      name: "MidpointSampler",
      dependencies: [
        .product(name: "LangevinDiffusion", package: "langevin"),
        .product(name: "LangevinTensor", package: "langevin"),
      ]),
    .testTarget(
      name: "MidpointSamplerTests",
      dependencies: ["MidpointSampler", .product(name: "LangevinCPU", package: "langevin")]),
    .target(
      name: "ClassPictures",
      dependencies: [
        .product(name: "Langevin", package: "langevin"),
        .product(name: "LangevinDiffusion", package: "langevin"),
        .product(name: "LangevinNN", package: "langevin"),
        .product(name: "LangevinTensor", package: "langevin"),
      ]),
    .testTarget(
      name: "ClassPicturesTests",
      dependencies: ["ClassPictures", .product(name: "LangevinCPU", package: "langevin")]),
  ],
  swiftLanguageModes: [.v6]
)
