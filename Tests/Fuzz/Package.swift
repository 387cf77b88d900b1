// swift-tools-version: 6.0
import PackageDescription

// A package of its own: all of it, the library too, is built with coverage for libFuzzer (`make fuzz`).
let package = Package(
  name: "fuzz",
  dependencies: [.package(name: "langevin", path: "../..")],
  targets: [
    .executableTarget(
      name: "Fuzz",
      dependencies: [
        .product(name: "Langevin", package: "langevin"),
        .product(name: "LangevinTensor", package: "langevin"),
      ],
      swiftSettings: [.unsafeFlags(["-parse-as-library"])])
  ],
  swiftLanguageModes: [.v6]
)
