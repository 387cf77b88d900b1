// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "langevin",
  products: [
    .library(name: "Langevin", targets: ["Langevin"]),
    // One for each module, so that packages take what they import: a sampler of your own, a model, a backend.
    .library(name: "LangevinTensor", targets: ["LangevinTensor"]),
    .library(name: "LangevinCPU", targets: ["LangevinCPU"]),
    .library(name: "LangevinOpenCL", targets: ["LangevinOpenCL"]),
    .library(name: "LangevinNN", targets: ["LangevinNN"]),
    .library(name: "LangevinJSON", targets: ["LangevinJSON"]),
    .library(name: "LangevinModels", targets: ["LangevinModels"]),
    .library(name: "LangevinDiffusion", targets: ["LangevinDiffusion"]),
    .library(name: "LangevinTraining", targets: ["LangevinTraining"]),
    .executable(name: "langevin", targets: ["LangevinTool"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    // The server's: HTTP/1, its types, and stopping in order.
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.80.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    // OpenCL's headers, and its loader opened at run time; a system library, found with pkg-config.
    .target(name: "COpenCL"),
    .systemLibrary(name: "CSPNG", pkgConfig: "spng", providers: [.apt(["libspng-dev"])]),
    .systemLibrary(name: "CTurboJPEG", pkgConfig: "libturbojpeg", providers: [.apt(["libturbojpeg0-dev"])]),
    .systemLibrary(name: "CWebP", pkgConfig: "libwebpmux", providers: [.apt(["libwebp-dev"])]),

    // The runtime. Arrows: Kernels -> OpenCL -> Tensor <- CPU; Tensor <- NN <- Models; Tensor <- Diffusion.
    .target(name: "LangevinTensor"),
    .target(name: "CVectorMath"),
    .target(name: "LangevinCPU", dependencies: ["LangevinTensor", "CVectorMath"]),
    .target(
      name: "LangevinKernels", path: "Kernels",
      resources: [
        .embedInCode("aligned.cl"),
        .embedInCode("arrange.cl"),
        .embedInCode("attention_gradient.cl"),
        .embedInCode("blocks.cl"),
        .embedInCode("byte_probe.cl"),
        .embedInCode("bytes.cl"),
        .embedInCode("cast.cl"),
        .embedInCode("dequantize.cl"),
        .embedInCode("elementwise.cl"),
        .embedInCode("elementwise_gradient.cl"),
        .embedInCode("embedding_gradient.cl"),
        .embedInCode("epilogue.cl"),
        .embedInCode("flash_attention.cl"),
        .embedInCode("int8_product.cl"),
        .embedInCode("move.cl"),
        .embedInCode("noise.cl"),
        .embedInCode("norm.cl"),
        .embedInCode("norm_gradient.cl"),
        .embedInCode("pair_probe.cl"),
        .embedInCode("pairs.cl"),
        .embedInCode("panels.cl"),
        .embedInCode("probe.cl"),
        .embedInCode("reduce.cl"),
        .embedInCode("sine.cl"),
        .embedInCode("statistics.cl"),
        .embedInCode("storage.cl"),
        .embedInCode("team.cl"),
        .embedInCode("team_probe.cl"),
        .embedInCode("tiled.cl"),
        .embedInCode("tiled_attention.cl"),
        .embedInCode("tiled_attention_gradient.cl"),
        .embedInCode("tiled_weight_gradient.cl"),
        .embedInCode("weight_gradient.cl"),
        .embedInCode("winograd.cl"),
      ]),
    // What a provider says of a machine on which its devices do not work.
    .target(name: "LangevinDoctor", dependencies: ["LangevinTensor"]),
    .target(
      name: "LangevinOpenCL",
      dependencies: [
        "LangevinTensor", "LangevinDoctor", "LangevinKernels", "COpenCL", "CVectorMath",
        .product(name: "Logging", package: "swift-log"),
      ],
      resources: [.embedInCode("Tuning/shipped.json")]),

    // Networks and the mathematics of noise.
    .target(name: "LangevinNN", dependencies: ["LangevinTensor"]),
    .target(name: "LangevinDiffusion", dependencies: ["LangevinTensor", "LangevinJSON"]),
    // Configurations and headers, strictly.
    .target(name: "LangevinJSON"),
    .target(
      name: "LangevinModels", dependencies: ["LangevinNN", "LangevinJSON"],
      resources: [.embedInCode("T5/html-entities.txt")]),

    // Optimizers and the loop that trains; knows no model, no file and no device.
    .target(name: "LangevinTraining", dependencies: ["LangevinTensor", "LangevinNN"]),

    // Where backends, models, samplers and training meet.
    .target(
      name: "Langevin",
      dependencies: [
        "LangevinTensor", "LangevinCPU", "LangevinOpenCL", "LangevinNN", "LangevinDiffusion",
        "LangevinModels", "LangevinTraining", "LangevinJSON", "CSPNG", "CTurboJPEG", "CWebP",
        .product(name: "Logging", package: "swift-log"),
      ],
      resources: [.copy("Resources")]),
    // Is a device right, and how fast is it: one table of operations, which each backend is held against, and
    // the tools that measure.
    .target(name: "LangevinValidation", dependencies: ["LangevinTensor"]),
    .target(
      name: "LangevinMeasurement",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinDiffusion", "LangevinDoctor", "LangevinJSON",
        "LangevinModels", "LangevinNN", "LangevinTensor", "LangevinValidation",
      ]),
    // The samplers where the denoiser has a closed form, and small networks that are trained on the spot.
    .target(
      name: "LangevinExperiment",
      dependencies: [
        "Langevin", "LangevinDiffusion", "LangevinJSON", "LangevinModels", "LangevinNN",
        "LangevinTensor", "LangevinTraining",
      ]),
    // A model that stays loaded, behind HTTP.
    .target(
      name: "LangevinServer",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinDiffusion", "LangevinJSON", "LangevinTensor",
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      resources: [
        .embedInCode("Page/index.html"), .embedInCode("Page/style.css"), .embedInCode("Page/icon.svg"),
        .embedInCode("Page/page.js"), .embedInCode("Page/drawing.js"), .embedInCode("Page/mask.js"),
        .embedInCode("Page/server.js"), .embedInCode("Page/settings.js"),
        .embedInCode("Page/openapi.json"),
      ]),
    .executableTarget(
      name: "LangevinTool",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinDiffusion", "LangevinDoctor", "LangevinExperiment",
        "LangevinJSON", "LangevinMeasurement", "LangevinModels", "LangevinNN", "LangevinTensor",
        "LangevinServer", "LangevinTraining", "LangevinValidation",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/langevin"),

    // What tests share.
    .target(
      name: "LangevinTestSupport", dependencies: ["LangevinCPU", "LangevinOpenCL", "LangevinTensor"],
      path: "Tests/LangevinTestSupport"),
    .testTarget(
      name: "LangevinCheckpointTests",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinDiffusion", "LangevinJSON", "LangevinModels", "LangevinNN",
        "LangevinTensor", "LangevinTestSupport",
      ]),
    .testTarget(
      name: "LangevinOpenCLTests",
      dependencies: [
        "LangevinCPU", "LangevinKernels", "LangevinOpenCL", "LangevinTensor", "LangevinTestSupport",
        "LangevinValidation",
        .product(name: "Logging", package: "swift-log"),
      ]),
    .testTarget(
      name: "LangevinDiffusionTests", dependencies: ["LangevinDiffusion", "LangevinCPU", "LangevinJSON"]),
    .testTarget(
      name: "LangevinExperimentTests",
      dependencies: [
        "Langevin", "LangevinExperiment", "LangevinDiffusion", "LangevinOpenCL", "LangevinCPU",
        "LangevinTensor",
      ]),
    .testTarget(
      name: "LangevinModelsTests",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinDiffusion", "LangevinJSON", "LangevinModels", "LangevinNN",
        "LangevinOpenCL", "LangevinTensor", "LangevinTestSupport", "LangevinTraining", "LangevinValidation",
      ]),

    .testTarget(
      name: "LangevinTrainingTests",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinDiffusion", "LangevinJSON", "LangevinModels", "LangevinNN",
        "LangevinOpenCL", "LangevinTensor", "LangevinTestSupport", "LangevinTraining",
      ]),
    .testTarget(
      name: "LangevinCPUTests",
      dependencies: ["LangevinTensor", "LangevinTestSupport", "LangevinCPU", "LangevinValidation"]),
    .testTarget(
      name: "LangevinMeasurementTests",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinJSON", "LangevinKernels", "LangevinMeasurement",
        "LangevinModels", "LangevinNN", "LangevinOpenCL", "LangevinTensor", "LangevinTestSupport",
        "LangevinTraining",
        "LangevinValidation",
      ]),
    .testTarget(
      name: "LangevinValidationTests",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinKernels", "LangevinOpenCL", "LangevinTensor",
        "LangevinTestSupport",
        "LangevinValidation",
      ]),
    .testTarget(
      name: "LangevinServerTests",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinJSON", "LangevinServer", "LangevinTensor",
        "LangevinTestSupport", "LangevinTool", .product(name: "Logging", package: "swift-log"),
      ]),
    .testTarget(
      name: "LangevinToolTests",
      dependencies: [
        "Langevin", "LangevinCPU", "LangevinDiffusion", "LangevinDoctor", "LangevinExperiment",
        "LangevinJSON", "LangevinMeasurement", "LangevinModels", "LangevinOpenCL", "LangevinTensor",
        "LangevinTestSupport",
        "LangevinTool", "LangevinValidation",
      ]),
  ],
  swiftLanguageModes: [.v6]
)
